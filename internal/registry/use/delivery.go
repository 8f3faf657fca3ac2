package use

import (
	"cmp"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/registry/quota"
)

// unreadBytes is how much of an output can wait in memory for a client that does not
// read: the window of an SSH channel. It is kept there until the client reads or leaves.
const unreadBytes = 2 << 20

// deliveries are the outputs that are on their way to clients.
type deliveries struct {
	mu  sync.Mutex // guards what follows
	all map[*Delivery]struct{}
}

// Delivery is the output of one command, forwarded connection or proxied request on its
// way to a client.
type Delivery struct {
	owner quota.Owner
	cut   func()
	all   *deliveries
	// since is when the part began to wait that the client has not taken; 0 while none
	// does. It is in nanoseconds of Unix time.
	since atomic.Int64
}

// Deliver begins a delivery. cut is called if the operator needs the memory in which the
// output waits, perhaps more than once. Close must be called.
func (u *Use) Deliver(cut func()) *Delivery {
	d := &Delivery{owner: u.Owner(), cut: cut, all: &u.Gate.deliveries}
	d.all.mu.Lock()
	defer d.all.mu.Unlock()
	if d.all.all == nil {
		d.all.all = map[*Delivery]struct{}{}
	}
	d.all.all[d] = struct{}{}
	return d
}

// Close ends the delivery.
func (d *Delivery) Close() {
	d.all.mu.Lock()
	defer d.all.mu.Unlock()
	delete(d.all.all, d)
}

// Offered notes that a part is offered to the client.
func (d *Delivery) Offered() { d.since.Store(time.Now().UnixNano()) }

// Taken notes that the client has taken all that was offered.
func (d *Delivery) Taken() { d.since.Store(0) }

// Writer returns a writer to the client.
func (d *Delivery) Writer(to io.Writer) io.Writer { return deliveringWriter{to, d} }

type deliveringWriter struct {
	to       io.Writer
	delivery *Delivery
}

func (w deliveringWriter) Write(p []byte) (int, error) {
	w.delivery.Offered()
	defer w.delivery.Taken()
	return w.to.Write(p)
}

// Relieve cuts outputs that clients do not read until about that many bytes are free, and
// returns how many it has cut. It takes from the namespace in which most wait, and there
// those that have waited for longest: clients that read, if slowly, come last.
func (g *Gate) Relieve(bytes int64) (cut int) {
	waiting := g.deliveries.waiting()
	for ; bytes > 0 && len(waiting) > 0; bytes -= unreadBytes {
		most := ""
		for namespace := range waiting {
			if len(waiting[namespace]) > len(waiting[most]) {
				most = namespace
			}
		}
		longest := waiting[most]
		longest[0].cut()
		cut++
		if waiting[most] = longest[1:]; len(longest) == 1 {
			delete(waiting, most)
		}
	}
	return cut
}

// waiting returns the deliveries that wait, by namespace, those that have waited for
// longest first.
func (a *deliveries) waiting() map[string][]*Delivery {
	type wait struct {
		*Delivery

		since int64
	}
	a.mu.Lock()
	var all []wait
	for d := range a.all {
		if since := d.since.Load(); since != 0 {
			all = append(all, wait{d, since})
		}
	}
	a.mu.Unlock()
	slices.SortFunc(all, func(a, b wait) int { return cmp.Compare(a.since, b.since) })
	namespaces := map[string][]*Delivery{}
	for _, w := range all {
		namespaces[w.owner.Namespace] = append(namespaces[w.owner.Namespace], w.Delivery)
	}
	return namespaces
}
