//go:build !windows

package terminal

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// sizeChanges delivers a signal when the size of the terminal may have changed.
func sizeChanges() (changes <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	return signals, func() { signal.Stop(signals) }
}

// sizeOfScreen returns the size of the terminal that a file is.
func sizeOfScreen(file *os.File) (columns, rows int, err error) { return term.GetSize(int(file.Fd())) }
