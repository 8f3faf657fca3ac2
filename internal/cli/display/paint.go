package display

import (
	"io"
	"os"

	"github.com/connpool/connpool/internal/cli/terminal"
)

// Paint colors words; false leaves them as they are.
type Paint bool

// The colors, named as the terminal knows them. It chooses their tone.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// PaintFor decides whether to use colors on a stream: on a terminal, unless the
// user has set NO_COLOR.
func PaintFor(out io.Writer) Paint {
	return Paint(terminal.Is(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// In returns text in a color; "" is no color.
func (p Paint) In(color, text string) string {
	if !bool(p) || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Mark is the sign before a line that reports a success or a failure.
func (p Paint) Mark(ok bool) string {
	if ok {
		return p.In(Green, "✔")
	}
	return p.In(Red, "✘")
}

// Attention is the sign before a line that reports neither.
func (p Paint) Attention() string { return p.In(Yellow, "!") }
