package client

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/gorilla/websocket"
)

// Streams is where the output of a Stream goes, and its terminal. A nil writer
// discards.
type Streams struct {
	Stdout io.Writer
	Stderr io.Writer
	// Terminal, if there is one, gives the command a terminal; what it writes to
	// stderr then arrives on Stdout.
	Terminal *Terminal
}

// Terminal describes the terminal of a command.
type Terminal struct {
	// Term is its type; "xterm" when empty.
	Term string
	// Size is its size at the start.
	Size Size
	// Resize delivers later sizes until it is closed; may be nil.
	Resize <-chan Size
}

// Size is a terminal's size in character cells.
type Size struct{ Columns, Rows uint16 }

// Stream runs a command and copies its streams while it runs. Its result and
// error are those of Exec, without the output. When ctx ends, the command is
// signalled to end, and its outcome is unknown.
//
// Stream returns when it has stopped using the streams, except for a Read of
// Stdin that has not returned. A writer that fails ends the command.
func (p *Pool) Stream(ctx context.Context, command Command, streams Streams) (Result, error) {
	return Result{ExitCode: -1}, notStarted(errors.ErrUnsupported)
}

var _ = websocket.BinaryMessage
var _ http.Header
