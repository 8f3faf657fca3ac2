package run

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/terminal"
)

// maxLine bounds how much of an unfinished line is held back, in bytes. A longer
// line is printed in pieces.
const maxLine = 64 << 10

// lineMixer prints what many targets write, line by line, each line marked with
// its target. What one target writes never interrupts a line of another.
type lineMixer struct {
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
func (m *lineMixer) erase() {
	if m.below != "" {
		fmt.Fprint(m.err, "\r\x1b[K")
		m.below = ""
	}
}

// nameColors tell neighbors apart; red is left for failures.
var nameColors = [...]string{"36", "33", "35", "32", "34", "96"}

func newLineMixer(out, err io.Writer, targets []string) *lineMixer {
	m := &lineMixer{out: out, err: err, names: make(map[string]int, len(targets)), paint: display.PaintFor(out)}
	for i, target := range targets {
		m.width = max(m.width, utf8.RuneCountInString(target))
		m.names[target] = i
	}
	return m
}

// writers returns where a target's stdout and stderr go.
func (m *lineMixer) writers(target string) (stdout, stderr *lineWriter) {
	color := nameColors[m.names[target]%len(nameColors)]
	prefix := m.paint.In(color, fmt.Sprintf("%-*s", m.width, target)) + " | "
	return m.writer(m.out, prefix), m.writer(m.err, prefix)
}

func (m *lineMixer) writer(to io.Writer, prefix string) *lineWriter {
	return &lineWriter{mixer: m, to: to, prefix: prefix, shown: terminal.Is(to)}
}

type lineWriter struct {
	mixer  *lineMixer
	to     io.Writer
	prefix string
	// shown says that a terminal shows the lines.
	shown bool
	rest  []byte
}

// Write prints whole lines and keeps the rest for later.
func (w *lineWriter) Write(p []byte) (int, error) {
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

// end prints a last line that has no line break.
func (w *lineWriter) end() {
	if len(w.rest) > 0 {
		_ = w.print(w.rest)
		w.rest = nil
	}
}

func (w *lineWriter) print(line []byte) error {
	w.mixer.mu.Lock()
	defer w.mixer.mu.Unlock()
	w.mixer.erase()
	_, err := fmt.Fprintf(w.to, "%s%s\n", w.prefix, w.marked(string(line)))
	return err
}

// marked returns a line that cannot pass for one of another target. On a terminal its
// control characters are seen and do nothing. Elsewhere its bytes stay, and what follows
// a carriage return is marked with the target again.
func (w *lineWriter) marked(line string) string {
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

// headBuffer keeps the beginning of a stream, at most maxKeptOutput bytes.
type headBuffer struct {
	kept      bytes.Buffer
	truncated bool
}

// Write keeps what there is room for and drops the rest.
func (b *headBuffer) Write(p []byte) (int, error) {
	room := maxKeptOutput - b.kept.Len()
	if len(p) > room {
		b.truncated = true
	}
	b.kept.Write(p[:min(len(p), room)])
	return len(p), nil
}

// textOrBytes returns what was kept, as text if it is text. A character that the bound
// has cut in two is left out.
func (b *headBuffer) textOrBytes() (string, []byte) {
	kept := b.kept.Bytes()
	if b.truncated {
		kept = withoutCutCharacter(kept)
	}
	if utf8.Valid(kept) {
		return string(kept), nil
	}
	return "", b.kept.Bytes()
}

// withoutCutCharacter removes the beginning of a character from the end of a text.
func withoutCutCharacter(text []byte) []byte {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return text[:i]
			}
			break
		}
	}
	return text
}

// summary prints a line for each place, apart from the output of the commands.
func (o *options) summary(results []result) {
	one, many := o.unit()
	t := &display.Table{Columns: []string{strings.ToUpper(one), "OUTCOME", "EXIT", "TIME", "WHY"}}
	p := display.PaintFor(o.ErrOut)
	marks := []string{" "}
	for i := range results {
		r := &results[i]
		marks = append(marks, r.mark(p))
		t.Add(r.name, r.outcome(), r.exit(), r.took(), r.why())
	}
	fmt.Fprintln(o.ErrOut)
	for i, line := range t.Lines() {
		fmt.Fprintln(o.ErrOut, marks[i], line)
	}
	fmt.Fprintf(o.ErrOut, "\n%s\n", sum(results, one, many))
	for i := range results {
		if code := results[i].ExitCode; code != nil && o.command.Note(*code) != "" {
			exit.PrintNote(o.ErrOut, o.command.Note(*code))
			return // the same is true of the others
		}
	}
}

// sum says how many places had which fate. What was skipped has not failed.
func sum(results []result, one, many string) string {
	good, skipped := 0, 0
	for i := range results {
		switch {
		case results[i].skipped():
			skipped++
		case results[i].ok():
			good++
		}
	}
	all := display.Count(len(results), one, many)
	if slices.ContainsFunc(results, func(r result) bool { return r.isUnlisted }) {
		all = strconv.Itoa(len(results)) // a target that says nothing is not one of them
	}
	text := fmt.Sprintf("%d of %s succeeded", good, all)
	if failed := len(results) - good - skipped; failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	return text
}

func (r *result) mark(p display.Paint) string {
	if r.skipped() {
		return "-"
	}
	return p.Mark(r.ok())
}

func (r *result) outcome() string {
	if r.skipped() {
		return r.Reason
	}
	return string(r.Outcome)
}

func (r *result) exit() string {
	if r.ExitCode == nil {
		return ""
	}
	return strconv.Itoa(*r.ExitCode)
}

func (r *result) took() string {
	if r.skipped() || r.isUnlisted {
		return ""
	}
	return display.Micros(int64(r.Seconds * float64(time.Second/time.Microsecond)))
}

func (r *result) why() string {
	switch {
	case r.Signal != "":
		return "signal " + r.Signal
	case r.Outcome == livev1alpha1.OutcomeCompleted:
		return ""
	case r.Reason == "" || r.skipped():
		return r.Message
	default:
		return r.Reason + ": " + r.Message
	}
}
