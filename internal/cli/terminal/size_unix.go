//go:build !windows

package terminal

import (
	"os"
	"os/signal"
	"syscall"
)

// sizeChanges delivers a signal when the size of the terminal may have changed.
func sizeChanges() (changes <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	return signals, func() { signal.Stop(signals) }
}
