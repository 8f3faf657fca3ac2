package clitest

import (
	"os"
	"testing"

	"github.com/creack/pty"
)

// Keyboard opens a terminal of 100 columns and 30 rows: what is written to keys is
// read from screen, and the other way round.
func Keyboard(t *testing.T) (keys, screen *os.File) {
	t.Helper()
	keys, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// In this order: a read of the terminal ends when its keys are gone.
		_ = keys.Close()
		_ = screen.Close()
	})
	if err := pty.Setsize(keys, &pty.Winsize{Cols: 100, Rows: 30}); err != nil {
		t.Fatal(err)
	}
	return keys, screen
}
