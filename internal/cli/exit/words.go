package exit

import (
	"context"
	"errors"
	"regexp"
	"sync"
)

// replacement is what Go's own errors say, and what that means to people.
type replacement struct {
	said  *regexp.Regexp
	means string
}

// goWords are compiled when there is an error: most commands have none.
var goWords = sync.OnceValue(func() []replacement {
	return []replacement{
		{regexp.MustCompile(`\bcontext canceled\b`), "interrupted"},
		{
			regexp.MustCompile(`\bcontext deadline exceeded( \(Client\.Timeout exceeded while awaiting headers\))?`),
			"no answer came in time",
		},
		{regexp.MustCompile(`\b(unexpected )?EOF\b`), "the connection ended early"},
		{regexp.MustCompile(`\b(io: read/write on closed pipe|use of closed network connection)\b`), "the connection is closed"},
	}
})

// Words returns the text of an error for people, without the words of Go's own errors.
func Words(text string) string {
	for _, word := range goWords() {
		text = word.said.ReplaceAllString(text, word.means)
	}
	return text
}

// isInterrupt reports whether an error is only that the user has ended the command.
func isInterrupt(err error) bool { return errors.Is(err, context.Canceled) }
