case $1 in
/*) p=$1 ;;
'~') p=$HOME ;;
'~/'*) p=$HOME/${1#'~/'} ;;
*) p=$(pwd)/$1 ;;
esac
umask
if command -v tar >/dev/null 2>&1; then echo tar; else echo none; fi
if [ -d "$p" ]; then
	echo directory
elif [ -f "$p" ]; then
	echo file
elif [ -e "$p" ]; then
	echo other
elif [ -h "$p" ]; then
	echo link
else
	case $(ls -d "$p" 2>&1) in
	*'ermission denied'*) echo denied ;;
	*) echo missing ;;
	esac
fi
if [ -f "$p" ]; then
	stat -Lc '%s %Y' "$p" 2>/dev/null || echo unknown
else
	echo none
fi
printf %s "$p"
