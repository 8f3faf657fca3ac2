package driver

import "strings"

// Quote turns words into a command line that any POSIX shell splits into the same
// words. Everything is quoted, since even a plain word can be a reserved one (if)
// or an assignment (a=b).
func Quote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
