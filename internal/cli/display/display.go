// Package display is text for people: what servers and other users wrote, made
// safe to print, times and counts in words, tables and colors.
//
// Whatever did not come from this program passes through Printable or OneLine
// before it reaches a terminal, so that the banner of a server, for example,
// cannot steer it. A Table does that to all of its cells.
//
//	t := &display.Table{Columns: []string{"NAME", "AGE"}}
//	t.Add(c.Name, display.Ago(&c.CreationTimestamp, now))
//	t.Write(out)
//
// Trade-off: the tables are a few lines of our own. The printers of cli-runtime want
// objects of the API, and what is shown here often is none.
package display

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/connpool/connpool/internal/cli/terminal"
	"github.com/connpool/connpool/internal/columns"
)

// None stands in a table for an absent value.
const None = "-"

// Printable returns text that cannot steer a terminal. Line breaks stay.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		default:
			return r
		}
	}, text)
}

// Visible returns a line of output in which each character that could steer a
// terminal is seen instead: ESC as ^[, CR as ^M, and what is no text as a replacement
// character. Tabs stay. A CR at the end belongs to the line break, and is dropped.
func Visible(line string) string {
	var b strings.Builder
	for _, r := range strings.TrimSuffix(line, "\r") {
		switch {
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < ' ' || r == '\x7f':
			b.WriteByte('^')
			b.WriteByte(byte(r) ^ '@')
		default:
			b.WriteRune(unicode.ReplacementChar)
		}
	}
	return b.String()
}

// OneLine returns printable text without line breaks.
func OneLine(text string) string {
	return strings.Join(strings.Fields(Printable(text)), " ")
}

// Ago formats how long ago something happened, as kubectl does.
func Ago(at *metav1.Time, now time.Time) string {
	if at.IsZero() {
		return None
	}
	return duration.HumanDuration(max(0, now.Sub(at.Time)))
}

// Micros formats a duration that an API gives in microseconds.
func Micros(n int64) string { return columns.Micros(n) }

// MicrosOrNone formats a duration in microseconds of which 0 means unknown.
func MicrosOrNone(n int64) string {
	if n == 0 {
		return None
	}
	return Micros(n)
}

// Count formats a number of things, in the singular or the plural.
func Count[N ~int | ~int32 | ~int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// OrNone returns a word on one line, or None if there is none.
func OrNone(word string) string { return cmp.Or(OneLine(word), None) }

// Paint colors words; false leaves them as they are.
type Paint bool

// The colors, named as the terminal knows them. It chooses their tone.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// PaintFor allows colors on a terminal, unless the user has set NO_COLOR.
func PaintFor(out io.Writer) Paint {
	return Paint(terminal.Is(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// ColorOff ends a color.
const ColorOff = "\x1b[0m"

// In returns text in a color; an empty color leaves it as it is.
func (p Paint) In(color, text string) string {
	if !bool(p) || color == "" || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + ColorOff
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
