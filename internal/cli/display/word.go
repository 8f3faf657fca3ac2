package display

import (
	"regexp"
	"strings"
)

// plain are words that every shell takes as they are.
var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// Word returns a word of a command line that a user is told to type, in quotes where a POSIX
// shell needs them.
func Word(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
