#!/bin/sh
# Every source goes in, the number of those that clang-format would lay out differently comes out. Never fails.
cd "$(dirname "$0")/../.." || exit 2
command -v clang-format > /dev/null || { echo "format: clang-format is not installed, layout not looked at"; exit 0; }
differ=0 all=0
for file in $(find api-gateway workers ctl common tests -name '*.[ch]' 2>/dev/null); do
	all=$((all + 1))
	clang-format --dry-run -Werror "$file" 2>/dev/null || differ=$((differ + 1))
done
echo "format: clang-format would touch $differ of $all files (advice: clang-format -i FILE)"
