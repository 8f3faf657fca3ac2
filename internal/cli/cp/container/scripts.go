package container

import _ "embed"

// The scripts are for any POSIX shell, and for the programs of coreutils, busybox or
// toybox. Paths are arguments, absolute, and never part of a script.

// look.sh says what there is: the umask, whether there is tar, what a path is, and the path
// itself, made absolute.
//
//go:embed scripts/look.sh
var lookScript string

// read.sh prints the permissions, the time and the size of a file, and then its content, or
// that from a byte on, of which the first one is 1.
//
//go:embed scripts/read.sh
var readScript string

// unpack.sh unpacks a tree into a folder of its own.
//
//go:embed scripts/unpack.sh
var unpackScript string

// install.sh moves what was unpacked to where it belongs.
//
//go:embed scripts/install.sh
var installScript string

// Scripts of one line.
const (
	packScript = `cd "$1" && exec tar cf - .`
	// The next three print how many bytes the file has then. The second one makes a new file,
	// which only its owner may read until it is complete.
	overwriteScript = `cat >"$1" && wc -c <"$1"`
	createScript    = `umask 077; set -C; cat >"$1" && wc -c <"$1" && chmod "$2" "$1"`
	appendScript    = `cat >>"$1" && wc -c <"$1" && { [ -z "$2" ] || chmod "$2" "$1"; }`
	renameScript    = `if [ -d "$2" ]; then echo "it is a directory" >&2; exit 1; fi; exec mv -f "$1" "$2"`
	removeScript    = `chmod -R u+rwx "$1" 2>/dev/null; exec rm -rf "$1"`
	modeScript      = `exec chmod "$2" "$1"`
	timeScript      = `exec touch -c -d "@$2" "$1"`
)
