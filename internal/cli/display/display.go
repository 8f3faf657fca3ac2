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
// Trade-off: the tables are a few lines around text/tabwriter, because the
// printers of cli-runtime bring the types of every Kubernetes API along.
package display

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// None stands in a table for an absent value.
const None = "-"

// Printable returns text without control characters and invisible ones, so that
// it cannot steer a terminal. Line breaks stay.
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
func Micros(n int64) string {
	d := time.Duration(n) * time.Microsecond
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", n)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(n)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

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
