// Package stopwatch takes the figures of one use: how long the operator took for it, beside
// the wait for a connection.
//
//	watch := stopwatch.New(meter, "prod", "web")
//	watch.Accepted()
//	...
//	watch.On("ssh")
//	watch.Leased(waited)
//	...
//	watch.CommandStarted()
//
// Trade-offs: the time until a command has started includes what its client takes to open
// its streams, which the operator cannot tell from its own work.
package stopwatch

import (
	"time"

	"github.com/connpool/connpool/internal/poolset"
)

// Meter gets the figures. Its methods must not block. Of the pool only its namespace and
// its name are set. kind is the protocol of the target.
type Meter interface {
	// CommandStarted tells how long it took until a target had accepted a command.
	CommandStarted(pool poolset.Ref, kind string, took time.Duration)
}

// Watch is that of one use. Its methods must not be called at the same time, but a command
// may start in another goroutine than that of its request.
type Watch struct {
	meter    Meter
	pool     poolset.Ref
	kind     string
	accepted time.Time
	waited   time.Duration
}

// New returns the watch of a use. meter may be nil.
func New(meter Meter, namespace, pool string) Watch {
	return Watch{meter: meter, pool: poolset.Ref{Namespace: namespace, Name: pool}}
}

// Accepted begins to measure: once the request is permitted, and anew once an object that it
// has is read, for which its client takes the time.
func (w *Watch) Accepted() { w.accepted = time.Now() }

// On tells the kind of the target, before or without a lease.
func (w *Watch) On(kind string) { w.kind = kind }

// Kind is that of the target; empty if it is not known.
func (w *Watch) Kind() string { return w.kind }

// Leased tells for how long a connection was waited for.
func (w *Watch) Leased(waited time.Duration) { w.waited += waited }

// CommandStarted tells that the target has accepted the command of the use.
func (w *Watch) CommandStarted() {
	if w.meter != nil {
		w.meter.CommandStarted(w.pool, w.kind, w.took())
	}
}

// took is for how long the use lasts, without its waits.
func (w *Watch) took() time.Duration { return time.Since(w.accepted) - w.waited }
