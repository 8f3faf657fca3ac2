package session

import "testing"

// All is taken when a shell may execute the text: at the end of its input it does not
// need the last newline.
func TestAllIsTakenWithoutTheLastNewline(t *testing.T) {
	const text = "\n{ :; }\n"
	tests := map[string]struct {
		takes     int
		some, all bool
	}{
		"nothing":                  {0, false, false},
		"a part":                   {3, true, false},
		"all but the last newline": {len(text) - 1, true, true},
		"all":                      {len(text), true, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newInput()
			in.write(text)
			if tc.takes > 0 {
				_, _ = in.Read(make([]byte, tc.takes))
			}
			if some, all := in.withdraw(); some != tc.some || all != tc.all {
				t.Errorf("some %t, all %t", some, all)
			}
		})
	}
}
