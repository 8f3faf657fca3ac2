// Package delivery watches what clients take of the output that is sent to them, and cuts
// what they do not read when memory is short.
//
//	d := deliveries.Begin(owner, cut)
//	defer d.Close()
//	streams.Stdout = d.Writer(streams.Stdout)
//	...
//	deliveries.Relieve(64 << 20)
//
// Trade-offs: how much waits cannot be asked, so each output that waits counts as the most
// that it can be. Nothing is cut while there is memory, because a pager that waits for a
// key looks the same as a client that never reads.
package delivery

import (
	"cmp"
	"context"
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

// Deliveries are the outputs that are on their way to clients. The zero value has none. It
// is safe for concurrent use.
type Deliveries struct {
	mu  sync.Mutex // guards what follows
	all map[*Delivery]struct{}
	// begun is closed when the next delivery begins; nil if no caller waits for that.
	begun chan struct{}
}

// Delivery is the output of one command, forwarded connection or proxied request on its
// way to a client.
type Delivery struct {
	owner quota.Owner
	cut   func()
	all   *Deliveries
	// since is when the part began to wait that the client has not taken; 0 while none
	// does. It is in nanoseconds of Unix time.
	since atomic.Int64
}

// Begin begins a delivery. cut is called, once at most, if the operator needs the memory in
// which the output waits. Close must be called.
func (a *Deliveries) Begin(owner quota.Owner, cut func()) *Delivery {
	d := &Delivery{owner: owner, cut: cut, all: a}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[*Delivery]struct{}{}
	}
	a.all[d] = struct{}{}
	if a.begun != nil {
		close(a.begun)
		a.begun = nil
	}
	return d
}

// Await waits until there is a delivery. It fails when ctx ends.
func (a *Deliveries) Await(ctx context.Context) error {
	begun := a.next()
	if begun == nil {
		return ctx.Err()
	}
	select {
	case <-begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next returns what is closed when a delivery begins; nil if there is one.
func (a *Deliveries) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) > 0 {
		return nil
	}
	if a.begun == nil {
		a.begun = make(chan struct{})
	}
	return a.begun
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
func (a *Deliveries) Relieve(bytes int64) (cut int) {
	waiting := a.waiting()
	for ; bytes > 0 && len(waiting) > 0; bytes -= unreadBytes {
		most := ""
		for namespace := range waiting {
			if len(waiting[namespace]) > len(waiting[most]) {
				most = namespace
			}
		}
		longest := waiting[most]
		longest[0].Close() // it may wait for its client for long, but holds nothing any more
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
func (a *Deliveries) waiting() map[string][]*Delivery {
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
