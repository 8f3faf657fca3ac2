// Package inventory is the places of a target, as its server lists them: the containers
// of a Docker engine or the pods of a cluster. Lister is the capability of a connection
// that can list them, beside those of package driver.
//
//	lister, ok := conn.(inventory.Lister)
//	found, err := lister.List(ctx, inventory.Query{Limit: 500})
//
// Servers may be hostile, so drivers read their lists by Read, entry by entry, and Add
// keeps what is found within the bounds of the Query.
package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// Lister lists the places of its target.
type Lister interface {
	// List returns the places that the query asks for, by name. It starts nothing: an
	// error is an *driver.Error that is not Started. The words in the result are safe, as
	// those of a driver.Error.
	List(ctx context.Context, query Query) (*Places, error)
}

// Query says which places to list.
type Query struct {
	// Namespace of the pods. Empty means that of the Endpoint, unless AllNamespaces.
	Namespace     string
	AllNamespaces bool
	// Selector is a label selector of pods.
	Selector string
	// All lists places that do not run, too.
	All bool
	// Limit is how many places are listed at most, and MaxBytes how many bytes their words
	// may have together; 0 means no limit.
	Limit    int
	MaxBytes int
}

// Places are what a server has. One of the lists is empty.
type Places struct {
	Containers []Container
	Pods       []Pod
	// More says that some were left out.
	More bool

	bytes int
}

// Container is a container of an engine.
type Container struct {
	// Name without a slash before it.
	Name, ID, Image string
	// State in one word, and Status in the engine's own words.
	State, Status string
	Created       time.Time
}

// Pod is a pod of a cluster.
type Pod struct {
	Namespace, Name, Phase, Node string
	// Containers that commands can run in, at most MaxContainers.
	Containers []string
	// Total is how many containers there are, of which so many are Ready.
	Total, Ready int
	Created      time.Time
}

// MaxContainers bounds the names that are kept of a pod's containers.
const MaxContainers = 32

// Add adds a container, with its words made safe, as far as the query has room for it. It
// reports whether there is room for more.
func (p *Places) Add(query *Query, c Container) bool {
	sanitize(&c.Name, &c.ID, &c.Image, &c.State, &c.Status)
	if c.Name == "" || !p.fits(query, len(c.Name)+len(c.ID)+len(c.Image)+len(c.State)+len(c.Status)) {
		return !p.More
	}
	p.Containers = append(p.Containers, c)
	return true
}

// AddPod is Add for a pod.
func (p *Places) AddPod(query *Query, pod Pod) bool {
	sanitize(&pod.Namespace, &pod.Name, &pod.Phase, &pod.Node)
	pod.Containers = slices.Clone(pod.Containers[:min(len(pod.Containers), MaxContainers)])
	size := len(pod.Namespace) + len(pod.Name) + len(pod.Phase) + len(pod.Node)
	for i := range pod.Containers {
		sanitize(&pod.Containers[i])
		size += len(pod.Containers[i])
	}
	if pod.Name == "" || !p.fits(query, size) {
		return !p.More
	}
	p.Pods = append(p.Pods, pod)
	return true
}

// fits counts an entry, unless it is beyond a bound.
func (p *Places) fits(query *Query, size int) bool {
	full := query.Limit > 0 && len(p.Containers)+len(p.Pods) >= query.Limit
	if full || query.MaxBytes > 0 && p.bytes+size > query.MaxBytes {
		p.More = true
		return false
	}
	p.bytes += size
	return true
}

func sanitize(words ...*string) {
	for _, word := range words {
		*word = strings.Clone(driver.Sanitize(*word)) // without the rest of an answer
	}
}

// Sort puts the places in the order of their names.
func (p *Places) Sort() {
	slices.SortFunc(p.Containers, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Pods, func(a, b Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// Names returns those of the containers or pods.
func (p *Places) Names() []string {
	names := make([]string, 0, len(p.Containers)+len(p.Pods))
	for i := range p.Containers {
		names = append(names, p.Containers[i].Name)
	}
	for i := range p.Pods {
		names = append(names, p.Pods[i].Name)
	}
	return names
}

// ToOffer returns the query for places of which a message offers some.
func ToOffer(namespace string) Query {
	return Query{Namespace: namespace, Limit: 500, MaxBytes: 128 << 10}
}

// maxOffered is how many names a message offers.
const maxOffered = 8

// Offer writes some of the names into a message. Those that begin as the name that was
// asked for come first.
func (p *Places) Offer(asked string) string { return offer(p.Names(), asked, p.More) }

func offer(names []string, asked string, more bool) string {
	if asked != "" {
		slices.SortStableFunc(names, func(a, b string) int {
			return cmp.Compare(boolToInt(strings.HasPrefix(b, asked)), boolToInt(strings.HasPrefix(a, asked)))
		})
	}
	left := len(names) - maxOffered
	text := strings.Join(names[:min(len(names), maxOffered)], ", ")
	switch {
	case left > 0 && more:
		return fmt.Sprintf("%s, +%d or more", text, left)
	case left > 0:
		return fmt.Sprintf("%s, +%d more", text, left)
	case more:
		return text + " and more"
	}
	return text
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
