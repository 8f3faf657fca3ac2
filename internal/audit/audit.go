// Package audit has what the audit lines of all packages share: how they write words that
// others have chosen.
//
//	log.Info("use started", "user", audit.Exact(name))
//
// Such words must neither act on a terminal that shows the log, nor look like others. So
// they are neither cut nor changed: what is not plain ASCII is a JSON escape, from which a
// reader of JSON gets the very words.
package audit

import (
	"fmt"
	"unicode/utf16"
)

// Exact are words as a client, a user or a cluster gave them. In JSON, every character
// but those of printable ASCII is an escape. Bytes that are not UTF-8 become U+FFFD.
type Exact string

// MarshalJSON implements json.Marshaler.
func (e Exact) MarshalJSON() ([]byte, error) {
	text := make([]byte, 0, len(e)+2)
	text = append(text, '"')
	for _, r := range string(e) {
		switch {
		case r == '"' || r == '\\':
			text = append(text, '\\', byte(r))
		case ' ' <= r && r <= '~':
			text = append(text, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			text = fmt.Appendf(text, `\u%04x\u%04x`, high, low)
		default:
			text = fmt.Appendf(text, `\u%04x`, r)
		}
	}
	return append(text, '"'), nil
}

// Words returns each of the words as it is.
func Words(words []string) []Exact {
	exact := make([]Exact, len(words))
	for i, word := range words {
		exact[i] = Exact(word)
	}
	return exact
}
