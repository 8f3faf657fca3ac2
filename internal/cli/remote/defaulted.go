package remote

import (
	"fmt"
	"io"

	"github.com/connpool/connpool/client"
)

// NoteContainer says which container the operator chose because a command names none, as
// kubectl does; nothing if it chose none.
func NoteContainer(out io.Writer, target, container string) {
	if container != "" {
		fmt.Fprintf(out, "Defaulted container %q: it is the only one that runs on %q\n", container, target)
	}
}

// Defaulted is NoteContainer for streams that have been opened. In a raw terminal the next
// line does not begin at the left edge by itself.
func Defaulted(out io.Writer, raw bool) func(client.Result) {
	return func(opened client.Result) {
		NoteContainer(out, opened.Target, opened.Container)
		if raw && opened.Container != "" {
			fmt.Fprint(out, "\r")
		}
	}
}
