#!/bin/sh
# The settings table as $1 prints it goes in; any difference to the sample file or to a page that names settings comes out.
set -u
cd "$(dirname "$0")/../.." || exit 2
print=$1
table=$(mktemp) || exit 2
trap 'rm -f "$table" "$table.names"' EXIT

"$print" > "$table" || exit 1
if ! diff -u config/feedmill.cfg "$table"; then
	echo "settings: config/feedmill.cfg is not the table in common/base/settings.c: run \`make sample\`" >&2
	exit 1
fi

# "mysql.port" for each row; then every `group.name` that a page sets in backquotes must be one of them.
awk '/^[a-z]+:$/ { group = $0; sub(":", ".", group) } /^};/ { group = "" }
	/^\t?[a-z_]+ = / { print group $1 }' "$table" > "$table.names"
groups=$(sed -n 's/\..*//p' "$table.names" | sort -u | tr '\n' '|' | sed 's/|$//')
bad=0
for page in README.md CONTRIBUTING.md docs/*.md; do
	[ -f "$page" ] || continue
	for name in $(grep -oE "\`($groups)\.[a-z_]+\`" "$page" | tr -d '\`' | sort -u); do
		case $name in *.[ch] | *.py | *.sh | *.dlq | *.retry | *.cfg) continue ;; esac
		grep -qx "${name%_file}\|$name" "$table.names" || { echo "$page: there is no setting $name" >&2; bad=1; }
	done
done
[ "$bad" = 0 ] || exit 1
echo "settings: $(wc -l < "$table.names") rows, the sample and the pages agree"
