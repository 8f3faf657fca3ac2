// Package figures takes the figures of one use: how long the operator took for it, beside
// the wait for a connection, and why it failed.
//
//	f := figures.New(meter, "prod", "web")
//	f.Accepted()
//	...
//	f.On("ssh")
//	f.Leased(waited)
//	...
//	f.CommandStarted()
//
// Trade-offs: the time until a command has started includes what its client takes to open
// its streams, which the operator cannot tell from its own work.
package figures

import (
	"cmp"
	"time"

	"github.com/connpool/connpool/internal/poolset"
)

// Meter gets the figures. Its methods must not block. Of the pool only its namespace and
// its name are set. kind is the protocol of the target.
type Meter interface {
	// CommandStarted tells how long it took until a target had accepted a command.
	CommandStarted(pool poolset.Ref, kind string, took time.Duration)
	// Answered tells how long it took until a target had answered a proxied request with
	// headers.
	Answered(pool poolset.Ref, kind string, took time.Duration)
	// UseFailed tells that a use failed, for one of the reasons of the API. kind is empty if
	// it was refused before it was known which target it was for.
	UseFailed(pool poolset.Ref, kind, reason, outcome string)
}

// Use takes the figures of one use. Its methods must not be called at the same time, but a
// command may start in another goroutine than that of its request.
type Use struct {
	meter    Meter
	pool     poolset.Ref
	kind     string
	accepted time.Time
	waited   time.Duration
}

// New returns the figures of a use. meter may be nil.
func New(meter Meter, namespace, pool string) Use {
	return Use{meter: meter, pool: poolset.Ref{Namespace: namespace, Name: pool}}
}

// Accepted begins to measure: once the request is permitted, and anew once an object that it
// has is read, for which its client takes the time.
func (u *Use) Accepted() { u.accepted = time.Now() }

// On tells the kind of the target, before or without a lease.
func (u *Use) On(kind string) { u.kind = kind }

// Kind is that of the target; empty if it is not known.
func (u *Use) Kind() string { return u.kind }

// Leased tells for how long a connection was waited for.
func (u *Use) Leased(waited time.Duration) { u.waited += waited }

// CommandStarted tells that the target has accepted the command of the use.
func (u *Use) CommandStarted() {
	if u.meter != nil {
		u.meter.CommandStarted(u.pool, u.kind, u.took())
	}
}

// Answered tells that the target has answered the proxied request.
func (u *Use) Answered() {
	if u.meter != nil {
		u.meter.Answered(u.pool, u.kind, u.took())
	}
}

// ReasonClientGone surfaces when the client does not wait for the end of its use, for example
// when it follows a log.
const ReasonClientGone = "ClientGone"

// Ended tells why the use ended, if for a reason at all, and with which outcome; that of a
// port-forward is empty. left says that it is not complete because its client left. A use
// that did all that it was asked for until its client had seen enough has not failed.
func (u *Use) Ended(reason, outcome string, left bool) {
	switch {
	case reason == "", reason == ReasonClientGone:
	case left:
		u.Failed(ReasonClientGone, outcome)
	default:
		u.Failed(reason, cmp.Or(outcome, "Unknown"))
	}
}

// Failed tells why the use failed, and with which outcome.
func (u *Use) Failed(reason, outcome string) {
	if u.meter != nil {
		u.meter.UseFailed(u.pool, u.kind, reason, outcome)
	}
}

// took is for how long the use lasts, without its waits.
func (u *Use) took() time.Duration { return time.Since(u.accepted) - u.waited }
