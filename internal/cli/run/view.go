package run

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
)

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

// with keeps data, and returns the buffer.
func (b *headBuffer) with(data []byte) *headBuffer {
	_, _ = b.Write(data)
	return b
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
	if r.skipped() || r.isUnlisted || r.Seconds == 0 {
		return ""
	}
	return display.Micros(int64(r.Seconds * float64(time.Second/time.Microsecond)))
}

func (r *result) why() string {
	switch {
	case r.Signal != "":
		return "signal " + r.Signal
	case r.Outcome == livev1alpha1.OutcomeCompleted && r.Truncated:
		return "more output than 1 MiB, of which the rest is lost; --live prints all of it"
	case r.Outcome == livev1alpha1.OutcomeCompleted:
		return ""
	case r.Reason == "" || r.skipped():
		return r.Message
	default:
		return r.Reason + ": " + r.Message
	}
}
