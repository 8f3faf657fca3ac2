package connpool

import (
	"context"
	"time"
)

// How says how a lease was got.
type How uint8

const (
	// Warm means that a slot was free.
	Warm How = iota
	// Queued means that the caller waited for another lease to end.
	Queued
	// Dialed means that the caller waited for a new connection.
	Dialed
)

// String returns the lower-case word, as used in metrics.
func (h How) String() string { return [...]string{"warm", "queued", "dialed"}[h] }

// Lease is the right to use a connection, until exactly one call of Release,
// Discard or Narrow. A second call does nothing, unless the lease was handed
// to another caller in between: leases are recycled, so drop the pointer.
type Lease[C Conn] struct{}

// Acquire leases a connection. Callers wait in order of arrival, bounded by
// Limits.MaxPending and Limits.AcquireTimeout. Errors: ErrClosed, ErrPaused,
// ErrExhausted, *DownError, or the error of ctx.
func (p *Pool[C]) Acquire(ctx context.Context) (*Lease[C], error) { panic("not built yet") }

// Conn returns the leased connection.
func (l *Lease[C]) Conn() C { panic("not built yet") }

// How says how the lease was got.
func (l *Lease[C]) How() How { panic("not built yet") }

// Wait is how long Acquire waited; 0 for Warm.
func (l *Lease[C]) Wait() time.Duration { panic("not built yet") }

// Release gives the lease back.
func (l *Lease[C]) Release() { panic("not built yet") }

// Discard gives the lease back and says that its connection is broken: it is
// not leased again, and closed when its other leases have ended.
func (l *Lease[C]) Discard() { panic("not built yet") }

// Narrow gives the lease back, not counted as a use, and says that the server
// refused one session more: until the next generation no connection carries
// more leases than this one does without this lease, but at least one.
func (l *Lease[C]) Narrow() { panic("not built yet") }
