package remote

import (
	"fmt"
	"io"
)

// NoteContainer says which container the operator chose because a command names none, as
// kubectl does; nothing if it chose none.
func NoteContainer(out io.Writer, target, container string) {
	if container != "" {
		fmt.Fprintf(out, "Defaulted container %q: it is the only one that runs on %q\n", container, target)
	}
}
