package unicode

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestOnlyUnicodeArrivesUnchanged(t *testing.T) {
	for text, want := range map[string]bool{
		`"plain"`:               true,
		`"é 😀"`:                 true,
		`"\u00e9 \ud83d\ude00"`: true,
		`"\ufffd"`:              true,
		`"\\ud800"`:             true,
		`"\\\\ud800\n"`:         true,
		`"\ud800"`:              false,
		`"\uD800x"`:             false,
		`"\ud800\\udc00"`:       false,
		`"\ud800\u0041"`:        false,
		`"\udc00\ud800"`:        false,
		`"\\\ud800"`:            false,
		`"\u12`:                 true, // it is no JSON, which is refused later
		`\`:                     true,
		"\"\xff\"":              false,
		"\"\xed\xa0\x80\"":      false,
	} {
		if got := IsText([]byte(text)); got != want {
			t.Errorf("%s is Unicode: %t", text, got)
		}
	}
}

// encoding/json is the measure: whatever it puts U+FFFD into must not be taken.
func FuzzWhatIsTakenIsNotReplaced(f *testing.F) {
	for _, seed := range []string{`"\ud83d\ude00"`, `"\ud800"`, `"\\ud800"`, "\"\xff\"", `"\ud800\ud800\udc00"`, `"\/\uDBFF\uDFFF"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var decoded string
		if json.Unmarshal(text, &decoded) != nil || !IsText(text) {
			return
		}
		replaced := 0
		for _, r := range decoded {
			if r == utf8.RuneError {
				replaced++
			}
		}
		if given := count(text); replaced != given {
			t.Errorf("%q has %d U+FFFD, %d given", text, replaced, given)
		}
	})
}

// count returns how many U+FFFD a JSON string has, as such or escaped.
func count(text []byte) (n int) {
	for len(text) > 0 {
		if unit, ok := escaped(text); ok {
			if unit == utf8.RuneError {
				n++
			}
			text = text[escapeLength:]
			continue
		}
		if text[0] == '\\' {
			text = text[2:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError {
			n++
		}
		text = text[size:]
	}
	return n
}
