package cp

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/connpool/connpool/internal/cli/display"
)

// maxNamed is how many files a note names.
const maxNamed = 5

// notes are what a user should know about files although, or because, the copy went
// on or ended. Files with the same fate share a note.
type notes struct {
	mu    sync.Mutex // guards the rest
	order []string
	named map[string][]string
	more  map[string]int
	why   map[string]string
}

// add notes the fate of a file and, if there is one, the reason of the first.
func (n *notes) add(fate, name, why string) {
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

func (n *notes) show(out io.Writer) {
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
