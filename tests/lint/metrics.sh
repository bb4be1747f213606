#!/bin/sh
# The metrics that the sources make go in, and the table in docs/operations.md; any that is missing in one of the two comes out.
set -u
cd "$(dirname "$0")/../.." || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
grep -rhoE '"feedmill_(gateway|worker|queue|store|job|relay|webhook)_[a-z_]+"' common api-gateway workers ctl --include='*.c' | tr -d '"' | sort -u > "$work/made"
sed -n 's/^| \(`feedmill_[^|]*\) |.*/\1/p' docs/operations.md | grep -oE 'feedmill_[a-z_]+' | sort -u > "$work/told"
[ -s "$work/made" ] || { echo "metrics: none found, which can't be" >&2; exit 1; }
if ! diff "$work/made" "$work/told" > "$work/differ"; then
	sed -n 's/^< /metrics: docs\/operations.md does not tell of /p; s/^> /metrics: docs\/operations.md tells of what is not made: /p' "$work/differ" >&2
	exit 1
fi
echo "metrics: $(wc -l < "$work/made") of them, all told in docs/operations.md"
