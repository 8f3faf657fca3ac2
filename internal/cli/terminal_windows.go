package cli

import "os"

// sizeChanges never tells: Windows has no signal for it. A program keeps the
// size that the window had at first.
func sizeChanges() (changes <-chan os.Signal, stop func()) {
	return nil, func() {}
}
