// Package notes keeps what a user should know about single files of a copy.
package notes

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/connpool/connpool/internal/cli/display"
)

// maxNamed is how many files a note names.
const maxNamed = 5

// Notes are what a user should know about files although, or because, the copy went
// on or ended. Files with the same fate share a note. The zero value is ready.
type Notes struct {
	mu    sync.Mutex // guards the rest
	order []string
	named map[string][]string
	more  map[string]int
	why   map[string]string
}

// Add notes the fate of a file and, if there is one, the reason of the first.
func (n *Notes) Add(fate, name, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.named == nil {
		n.named, n.more, n.why = map[string][]string{}, map[string]int{}, map[string]string{}
	}
	switch known := n.named[fate]; {
	case len(known) == 0:
		n.order, n.why[fate] = append(n.order, fate), why
		fallthrough
	case len(known) < maxNamed:
		n.named[fate] = append(known, fmt.Sprintf("%q", name))
	default:
		n.more[fate]++
	}
}

// Show prints the notes.
func (n *Notes) Show(out io.Writer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, fate := range n.order {
		text := fate + ": " + strings.Join(n.named[fate], ", ")
		if more := n.more[fate]; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		if why := n.why[fate]; why != "" {
			text += " (" + why + ")"
		}
		fmt.Fprintln(out, "note:", display.OneLine(text))
	}
}
