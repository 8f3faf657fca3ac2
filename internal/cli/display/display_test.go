package display

import "testing"

func TestPrintableTextCannotSteerATerminal(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"an escape sequence":          {"a\x1b[2Jb", "a[2Jb"},
		"a C1 control":                {"a\u009b2Jb", "a2Jb"},
		"an override of direction":    {"a\u202eb", "ab"},
		"a line break is kept":        {"a\nb", "a\nb"},
		"a carriage return":           {"a\rb", "a b"},
		"letters of other languages":  {"Zürich Ελλάδα", "Zürich Ελλάδα"},
		"bytes that are not in UTF-8": {"a\xffb", "a\uFFFDb"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Printable(test.text); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
