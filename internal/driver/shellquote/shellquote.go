// Package shellquote turns words into a command line from which a shell gets the same
// words back, byte for byte, whatever they hold.
//
//	shellquote.Words(words) // for a shell that is known to be a POSIX sh
//	shellquote.Login(words) // for the login shell of a user, which may be any
//
// Shells disagree about quotes. Between single quotes a backslash escapes in fish, and
// an exclamation mark recalls a command in csh. Outside of them, after a backslash, all
// agree on both. A newline cannot be written for csh at all, which would take the lines
// after it for commands, and its words have at most 4 KiB or so. Words with these are
// handed to a sh that the login shell starts, encoded so that any shell passes them on.
package shellquote

import "strings"

// Words quotes for a POSIX shell. Everything is quoted, since even a plain word can be
// a reserved one (if) or an assignment (a=b).
func Words(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// outside are the bytes that stand outside of the single quotes, after a backslash.
var outside = strings.NewReplacer(`'`, `'\''`, `\`, `'\\'`, `!`, `'\!'`)

func quote(word string) string { return "'" + outside.Replace(word) + "'" }

// maxWord is how long a quoted word may be. The csh of BSD takes no longer ones.
const maxWord = 4000

// Login quotes for the login shell of a user: sh, dash, bash, zsh, ksh, fish, csh, tcsh
// or another. Words with a newline or of more than some KiB need a sh in its PATH.
func Login(words []string) string {
	line := Words(words)
	for _, word := range words {
		if strings.Contains(word, "\n") || len(quote(word)) > maxWord {
			return Words(append([]string{"sh", "-c", decode, "sh"}, encode(words)...))
		}
	}
	return line
}

// decode is a script for sh that runs the words which encode has encoded in its
// arguments. A program takes the place of the shell, so that a signal that ends it is
// seen by the server.
const decode = `eval "set -- $(printf %b "$@")"; case $(command -v "$1") in */*) exec "$@";; esac; "$@"`

// inner makes text safe between double quotes, and the result for printf's %b, which
// undoes the latter.
var inner = strings.NewReplacer(`\`, `\\\\`, `"`, `\\"`, `$`, `\\$`, "`", "\\\\`", "\n", `\n`)

// encode returns the words in double quotes, cut in pieces that printf puts together.
func encode(words []string) []string {
	var pieces []string
	var piece strings.Builder
	add := func(text string) {
		if piece.Len()+len(text) > maxWord/4 { // a byte becomes four at most when it is quoted
			pieces = append(pieces, piece.String())
			piece.Reset()
		}
		piece.WriteString(text)
	}
	for _, word := range words {
		add(` "`)
		for i := range len(word) {
			add(inner.Replace(word[i : i+1]))
		}
		add(`"`)
	}
	return append(pieces, piece.String())
}
