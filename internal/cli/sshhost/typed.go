package sshhost

import (
	"regexp"
	"sync"

	"github.com/connpool/connpool/internal/driver/shellquote"
)

// plainWord is a word that every shell takes as it is.
var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`) })

// Typed returns a word as it must be typed in a shell, such as the path of a file.
func Typed(word string) string {
	if plainWord().MatchString(word) {
		return word
	}
	return shellquote.Words([]string{word})
}
