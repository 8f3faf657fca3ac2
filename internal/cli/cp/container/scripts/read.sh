from=$2
set -- "$1" $(stat -Lc '%a %Y %s' "$1" 2>/dev/null)
size=${4:-0}
if [ "$size" = 0 ]; then
	size=$(wc -c <"$1") || exit
fi
echo "${2:-644}" "${3:-0}" $size
if [ -n "$from" ]; then exec tail -c "+$from" "$1"; fi
exec cat "$1"
