package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// none stands in tables where there is nothing to say.
const none = "-"

// printable is text that cannot steer a terminal: what others wrote, such as the
// banner of a server, without control characters and invisible ones.
func printable(text string) string {
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

// oneLine is printable text without line breaks.
func oneLine(text string) string {
	return strings.Join(strings.Fields(printable(text)), " ")
}

// ago says how long ago something was, as kubectl does.
func ago(at *metav1.Time, now time.Time) string {
	if at.IsZero() {
		return none
	}
	return duration.HumanDuration(max(0, now.Sub(at.Time)))
}

// micros says a duration that an API gives in microseconds.
func micros(n int64) string {
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

// count says how many of something there are.
func count[N ~int | ~int32 | ~int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// orNone is a word, or that there is none.
func orNone(word string) string { return cmp.Or(oneLine(word), none) }

// value is what a pointer leads to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// nearest are the known words that somebody may have meant, best first, at most
// three.
func nearest(word string, known []string) []string {
	type guess struct {
		word     string
		distance int
	}
	var guesses []guess
	for _, k := range known {
		d := distance(word, k)
		if strings.HasPrefix(k, word) || strings.HasPrefix(word, k) {
			d = min(d, 1)
		}
		if d <= max(1, len(word)/3) {
			guesses = append(guesses, guess{k, d})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.word, b.word))
	})
	words := make([]string, 0, 3)
	for _, g := range guesses[:min(3, len(guesses))] {
		words = append(words, g.word)
	}
	return words
}

// distance is how many letters have to be changed, added, removed or swapped
// with their neighbor to make b of a.
func distance(a, b string) int {
	// to[i][j] makes the first j letters of b of the first i of a.
	to := make([][]int, len(a)+1)
	for i := range to {
		to[i] = make([]int, len(b)+1)
		to[i][0] = i
	}
	for j := range to[0] {
		to[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			to[i][j] = min(to[i-1][j]+1, to[i][j-1]+1, to[i-1][j-1]+differs(a[i-1], b[j-1]))
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				to[i][j] = min(to[i][j], to[i-2][j-2]+1)
			}
		}
	}
	return to[len(a)][len(b)]
}

func differs(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}

// paint colors words, or leaves them alone.
type paint bool

// The colors that are used, by their meaning; the terminal chooses their tone.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
)

func (p paint) in(color, text string) string {
	if !bool(p) || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// paintFor says whether to use colors on a stream: on a terminal whose user has
// not asked to be spared them.
func paintFor(out io.Writer) paint {
	return paint(isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// mark is the sign before a line of findings.
func (p paint) mark(ok bool) string {
	if ok {
		return p.in(green, "✔")
	}
	return p.in(red, "✘")
}
