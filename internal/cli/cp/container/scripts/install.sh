stage=$1 to=$2 preserve=$3 named=$2 bad=0
if ! [ -f "$stage/end" ]; then
	echo 'the files did not arrive completely' >&2
	exit 2
fi

left() {
	printf '%s\n' "$1" >&2
	bad=1
}

# move FROM TO: TO does not exist. Only who may write in a folder may move it.
move() {
	if [ -d "$1" ] && ! [ -h "$1" ] && ! [ -w "$1" ]; then
		mode=$(stat -c %a "$1") && chmod u+w "$1" && mv "$1" "$2" && chmod "$mode" "$2"
	else
		mv "$1" "$2"
	fi || bad=1
}

# fill FROM TO: TO is a file, or a link to one. It is written in place.
fill() {
	if ! cat "$1" >"$2"; then
		bad=1
	elif [ -n "$preserve" ]; then
		chmod "$(stat -c %a "$1")" "$2" && touch -r "$1" "$2" || bad=1
	fi
}

# put FROM TO: a file, a link, or a folder with all that is in it.
put() {
	if ! [ -e "$2" ] && ! [ -h "$2" ]; then
		move "$1" "$2"
	elif [ -h "$1" ]; then
		if [ -d "$2" ] && ! [ -h "$2" ]; then
			left "$2 is in the way"
		else
			rm -f "$2" && mv "$1" "$2" || bad=1
		fi
	elif [ -d "$1" ]; then
		if [ -d "$2" ] && { ! [ -h "$2" ] || [ "$2" = "$named" ]; }; then
			for f in "$1"/* "$1"/.[!.]* "$1"/..?*; do
				if [ -e "$f" ] || [ -h "$f" ]; then put "$f" "$2/${f##*/}"; fi
			done
		else
			left "$2 is in the way, so nothing in it was copied"
		fi
	elif [ -f "$2" ] || { [ -h "$2" ] && ! [ -e "$2" ]; }; then
		fill "$1" "$2"
	else
		left "$2 exists and is not a regular file, so nothing was written to it"
	fi
}

put "$stage/tree" "$to"
chmod -R u+rwx "$stage" 2>/dev/null
rm -rf "$stage" || bad=1
exit $bad
