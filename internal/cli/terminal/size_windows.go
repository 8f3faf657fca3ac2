package terminal

import "os"

// sizeChanges delivers nothing: Windows has no signal for it. A program keeps the
// size that the window had at first.
func sizeChanges() (changes <-chan os.Signal, stop func()) {
	return nil, func() {}
}
