// Package connpool keeps a bounded set of warm connections of any type:
// dialling, leasing, replacing and draining them.
//
// Usage: New starts a pool that warms itself to Limits.MinWarm. Acquire leases
// a connection, several leases may share one, and Release or Discard ends the
// lease by outcome. SetLimits, Rotate, Replace and Retry tell a live pool what
// changed; Drain and Close end it and return when everything is closed.
//
// The mechanism (pool, leases, waiters, dials) is below, the policy (keeper and
// lifecycle: minimum warm, ageing, idle time, uses, probing, backoff) above it;
// every decision about time is a pure function that takes now.
//
// Trade-offs: one mutex for each pool, because a pool has few connections and
// its critical sections are tens of nanoseconds. Connections are packed, not
// spread: a connection that already carries leases is preferred, so that
// surplus connections idle out. Bookkeeping looks at all connections of a pool
// whenever one of them changes state, which is cheap for tens and not meant for
// tens of thousands. No goroutine runs for an idle connection or an idle pool.
package connpool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Conn is what the pool needs to know of a connection.
type Conn interface {
	// Context is done when the connection has died; context.Cause says why.
	Context() context.Context
	// Close ends the connection and whatever runs on it, at once.
	Close() error
}

// DialFunc makes one connection. It must return soon after ctx ends.
type DialFunc[C Conn] func(ctx context.Context) (C, error)

// Verdict says how a failed dial is retried.
type Verdict struct {
	// Park stops dialling for RetryAfter, or 5 minutes when that is 0, unless
	// Retry, Rotate or Replace come first.
	Park bool
	// RetryAfter is the least time to wait before the next dial; 0 leaves it
	// to the backoff.
	RetryAfter time.Duration
}

// Options are what a pool is made of. Only Dial is required.
type Options[C Conn] struct {
	// Dial makes the connections of the first generation.
	Dial DialFunc[C]
	// Probe checks the health of one connection, idle or busy.
	Probe func(context.Context, C) error
	// Admit waits for a place in the dial budget and returns what gives it
	// back. The wait does not count against Limits.DialTimeout.
	Admit func(context.Context) (done func(), err error)
	// Judge decides how a dial failure is retried; nil means always backoff.
	Judge func(error) Verdict
	// Notify is called, never under the lock, after a transition that Stats
	// shows: connection gained or lost, dial failed or succeeded, parked, probe
	// threshold crossed, rotation proved or failed. Not for each lease.
	Notify func()
	// Limits are the first limits.
	Limits Limits
}

// Limits bound a pool and say how its connections are kept. A zero MaxAge,
// MaxIdle, MaxUses or ProbePeriod means off; other zeros mean the default
// named at the field.
type Limits struct {
	// MinWarm is how many connections are kept, leased or not. At most Max.
	MinWarm int
	// Max bounds the connections that serve, are being dialled or are being
	// closed; default 1. Connections on their way out that wait for a successor
	// or for their last lease are bounded by Max once more.
	Max int
	// LeasesPerConn bounds the leases that share a connection; default 1.
	LeasesPerConn int
	// MaxPending bounds the callers that wait in Acquire; default 100.
	MaxPending int
	// AcquireTimeout bounds the wait in Acquire; default 10 s.
	AcquireTimeout time.Duration
	// DialTimeout bounds one dial; default 10 s.
	DialTimeout time.Duration
	// MaxAge replaces a connection before it is this old: up to 10 % earlier,
	// so that connections of one age do not leave together.
	MaxAge time.Duration
	// MaxIdle closes a connection that nobody used for this long, but never
	// goes below MinWarm.
	MaxIdle time.Duration
	// MaxUses replaces a connection after this many leases.
	MaxUses int64
	// DrainTimeout bounds how long leases may still run after Drain or
	// Replace; 0 cuts them at once.
	DrainTimeout time.Duration
	// ProbePeriod is how often each connection is probed.
	ProbePeriod time.Duration
	// ProbeTimeout bounds one probe; default 5 s.
	ProbeTimeout time.Duration
	// ProbeFailures is how many consecutive failed probes close a connection;
	// default 3.
	ProbeFailures int
	// Paused hands out nothing new and dials nothing; what runs finishes and
	// warm connections stay.
	Paused bool
}

var (
	// ErrClosed says that the pool is draining or closed.
	ErrClosed = errors.New("connpool: pool is closed")
	// ErrPaused says that Limits.Paused is set.
	ErrPaused = errors.New("connpool: pool is paused")
	// ErrExhausted says that every slot is leased. It matches both ErrQueueFull
	// and ErrAcquireTimeout.
	ErrExhausted = errors.New("connpool: pool is exhausted")
	// ErrQueueFull says that Limits.MaxPending callers wait already.
	ErrQueueFull = fmt.Errorf("%w: too many callers wait already", ErrExhausted)
	// ErrAcquireTimeout says that no slot became free in Limits.AcquireTimeout.
	ErrAcquireTimeout = fmt.Errorf("%w: no slot became free in time", ErrExhausted)
	// ErrDialPending is inside a DownError when the acquire timeout passed
	// before the first dial ended.
	ErrDialPending = errors.New("connpool: still dialling")
)

// DownError says that no connection is alive and that the target did not
// answer the last dial.
type DownError struct {
	// Err is why the last dial failed.
	Err error
	// Until is when the next dial is due; zero when one is running.
	Until time.Time
	// Parked reports that dialling was stopped rather than backed off.
	Parked bool
}

// Error names the inner cause.
func (e *DownError) Error() string { return "connpool: target is down: " + e.Err.Error() }

// Unwrap returns the inner cause.
func (e *DownError) Unwrap() error { return e.Err }

// Pool is a bounded set of warm connections. Its methods are safe for
// concurrent use.
type Pool[C Conn] struct{}

// New makes a pool and starts to warm it; it does not wait for that.
func New[C Conn](opts Options[C]) *Pool[C] { panic("not built yet") }

// SetLimits replaces the limits of a live pool. Connections above the new
// limits are retired gracefully.
func (p *Pool[C]) SetLimits(limits Limits) { panic("not built yet") }

// Rotate gives the pool new credentials for the same target. It dials one
// connection with dial and probes it; only then are the old connections
// replaced, each leaving when its successor is warm. Until then, and for as
// long as the new credentials fail, the old ones keep serving and dialling;
// Stats.Rotation tells. With no old connection alive dial is adopted at once.
func (p *Pool[C]) Rotate(dial DialFunc[C]) { panic("not built yet") }

// Replace points the pool at another target or user. Nothing dialled before is
// ever leased again; running leases may finish within Limits.DrainTimeout.
func (p *Pool[C]) Replace(dial DialFunc[C]) { panic("not built yet") }

// Retry forgets backoff and parking: whatever is wanted is dialled now.
func (p *Pool[C]) Retry() { panic("not built yet") }

// Recycle replaces one connection and retires it when unused. It reports
// whether the pool serves with a connection of that ID.
func (p *Pool[C]) Recycle(id uint64) bool { panic("not built yet") }

// RecycleAll replaces every connection and retires each when unused.
func (p *Pool[C]) RecycleAll() { panic("not built yet") }

// Drain refuses new leases, lets running ones finish for up to
// Limits.DrainTimeout or until ctx ends, and returns when everything is
// closed. The error is nil if no lease was cut, else says what ended the wait.
func (p *Pool[C]) Drain(ctx context.Context) error { panic("not built yet") }

// Close cuts every lease and returns when everything is closed: connections,
// dials and probes. It always returns nil.
func (p *Pool[C]) Close() error { panic("not built yet") }
