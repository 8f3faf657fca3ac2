//go:build !windows

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// sizeChanges tells when the size of the terminal may have changed.
func sizeChanges() (changes <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	return signals, func() { signal.Stop(signals) }
}
