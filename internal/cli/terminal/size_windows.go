package terminal

import (
	"os"
	"time"

	"golang.org/x/term"
)

// lookAgain is how often the size of the window is looked at, as kubectl does.
const lookAgain = 250 * time.Millisecond

// sizeChanges delivers when it is time to look at the window: Windows has no signal
// for a change.
func sizeChanges() (changes <-chan time.Time, stop func()) {
	ticker := time.NewTicker(lookAgain)
	return ticker.C, ticker.Stop
}

// sizeOfScreen returns the size of the window of this process. Standard input, which
// is the terminal in raw mode, has no size on Windows.
func sizeOfScreen(*os.File) (columns, rows int, err error) {
	screen, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = screen.Close() }()
	return term.GetSize(int(screen.Fd()))
}
