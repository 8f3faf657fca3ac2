// Package unicode says whether a JSON text arrives as it was sent.
//
//	if !unicode.IsText(body) { ... }
package unicode

import (
	"bytes"
	"encoding/hex"
	"unicode/utf16"
	"unicode/utf8"
)

// escapeLength is that of an escape such as \u00e9 in JSON.
const escapeLength = 6

// IsText reports whether all of a JSON text is Unicode. encoding/json puts U+FFFD in the
// place of bytes that are not UTF-8, and of escapes of half a surrogate pair.
func IsText(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	for {
		at := bytes.IndexByte(body, '\\')
		if at < 0 {
			return true
		}
		body = body[at:]
		first, ok := escaped(body)
		if !ok {
			body = body[min(2, len(body)):]
			continue
		}
		body = body[escapeLength:]
		if !utf16.IsSurrogate(first) {
			continue
		}
		second, ok := escaped(body)
		if !ok || utf16.DecodeRune(first, second) == utf8.RuneError {
			return false
		}
		body = body[escapeLength:]
	}
}

// escaped returns the UTF-16 code unit at the beginning of a text, if it is one that is escaped.
func escaped(text []byte) (unit rune, ok bool) {
	if len(text) < escapeLength || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var decoded [2]byte
	if _, err := hex.Decode(decoded[:], text[2:escapeLength]); err != nil {
		return 0, false
	}
	return rune(decoded[0])<<8 | rune(decoded[1]), true
}
