// Package lines prints what many targets write at the same time: line by line, each marked
// with its target, with the progress of the whole below.
//
//	mixer := lines.NewMixer(os.Stdout, os.Stderr, names)
//	shown := lines.ShowProgress(mixer, len(names))
//	stdout, stderr := mixer.Writers("web-1")
//
// Trade-off: a line is held back until it is whole, or long.
package lines

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/terminal"
)

// maxLine bounds how much of an unfinished line is held back, in bytes. A longer
// line is printed in pieces.
const maxLine = 64 << 10

// Mixer prints what many targets write, line by line, each line marked with
// its target. What one target writes never interrupts a line of another.
type Mixer struct {
	mu    sync.Mutex // guards out and err, so that lines stay whole, and below
	out   io.Writer
	err   io.Writer
	width int
	names map[string]int
	paint display.Paint
	// below is what a terminal shows below the last line, until the next one.
	below string
}

// erase removes what is below the last line. The caller holds the lock.
func (m *Mixer) erase() {
	if m.below != "" {
		fmt.Fprint(m.err, "\r\x1b[K")
		m.below = ""
	}
}

// nameColors tell neighbors apart; red is left for failures.
var nameColors = [...]string{"36", "33", "35", "32", "34", "96"}

// NewMixer returns a mixer that prints to out and err for targets of these names.
func NewMixer(out, err io.Writer, targets []string) *Mixer {
	m := &Mixer{out: out, err: err, names: make(map[string]int, len(targets)), paint: display.PaintFor(out)}
	for i, target := range targets {
		m.width = max(m.width, utf8.RuneCountInString(target))
		m.names[target] = i
	}
	return m
}

// Writers returns where a target's stdout and stderr go.
func (m *Mixer) Writers(target string) (stdout, stderr *Writer) {
	color := nameColors[m.names[target]%len(nameColors)]
	prefix := m.paint.In(color, fmt.Sprintf("%-*s", m.width, target)) + " | "
	return m.writer(m.out, prefix), m.writer(m.err, prefix)
}

func (m *Mixer) writer(to io.Writer, prefix string) *Writer {
	return &Writer{mixer: m, to: to, prefix: prefix, shown: terminal.Is(to)}
}

// Writer marks the lines of one stream of a target.
type Writer struct {
	mixer  *Mixer
	to     io.Writer
	prefix string
	// shown says that a terminal shows the lines.
	shown bool
	rest  []byte
}

// Write prints whole lines and keeps the rest for later.
func (w *Writer) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole && len(line) < maxLine {
			return len(p), nil
		}
		if err := w.print(line); err != nil {
			return 0, err
		}
		w.rest = rest
	}
}

// End prints a last line that has no line break.
func (w *Writer) End() {
	if len(w.rest) > 0 {
		_ = w.print(w.rest)
		w.rest = nil
	}
}

func (w *Writer) print(line []byte) error {
	w.mixer.mu.Lock()
	defer w.mixer.mu.Unlock()
	w.mixer.erase()
	_, err := fmt.Fprintf(w.to, "%s%s\n", w.prefix, w.marked(string(line)))
	return err
}

// marked returns a line that cannot pass for one of another target. On a terminal its
// control characters are seen and do nothing. Elsewhere its bytes stay, and what follows
// a carriage return is marked with the target again.
func (w *Writer) marked(line string) string {
	if w.shown {
		return display.Visible(line)
	}
	text, isEnd := strings.CutSuffix(line, "\r")
	text = strings.ReplaceAll(text, "\r", "\r"+w.prefix)
	if isEnd {
		text += "\r"
	}
	return text
}
