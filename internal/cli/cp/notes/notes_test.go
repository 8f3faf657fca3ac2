package notes

import (
	"bytes"
	"strings"
	"testing"
)

func TestNamesInNotesCannotSteerATerminal(t *testing.T) {
	var printed bytes.Buffer
	n := &Notes{}
	n.Add("incomplete", "a\x1b[2J\rb\u202e\x07", "")
	n.Show(&printed)
	if strings.ContainsAny(printed.String(), "\x1b\r\x07\u202e") {
		t.Errorf("printed %q", &printed)
	}
}
