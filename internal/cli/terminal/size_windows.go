package terminal

import "os"

// sizeChanges delivers nothing: Windows has no signal for it.
func sizeChanges() (changes <-chan os.Signal, stop func()) {
	return nil, func() {}
}
