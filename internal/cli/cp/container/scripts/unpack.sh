umask 077
mkdir "$1" || exit
exec tar "$2" - -C "$1"
