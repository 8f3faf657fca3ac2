// Package connpool keeps a bounded set of warm connections of any type:
// dialing, leasing, replacing and draining them.
//
// Usage: New starts a pool that warms itself to Limits.MinWarm. Acquire leases
// a connection, several leases may share one, and Release or Discard ends the
// lease by outcome. SetLimits, Rotate, Replace and Retry tell a live pool what
// changed; Drain and Close end it and return when everything is closed.
//
// The mechanism (pool, leases, waiters, dials) is apart from the policy (policy.go
// and lifecycle.go: minimum warm, age, idle time, uses, probing, backoff), and every
// decision about time is a pure function that takes now.
//
// Trade-offs: one mutex for each pool, because a pool has few connections and
// its critical sections are tens of nanoseconds. Connections are packed, not
// spread: a connection that already carries leases is preferred, so that
// surplus connections idle out. Only SpreadAs does the opposite. Bookkeeping looks at all connections of a pool
// whenever one of them changes state, which is cheap for tens and not meant for
// tens of thousands. No goroutine runs for an idle connection or an idle pool.
package connpool

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Conn is what the pool needs to know of a connection.
type Conn interface {
	// Context is done when the connection has died; context.Cause says why.
	Context() context.Context
	// Close ends the connection and whatever runs on it, at once.
	Close() error
}

// DialFunc makes one connection. It must return soon after ctx ends; ctx bounds
// the dial, not the connection.
type DialFunc[C Conn] func(ctx context.Context) (C, error)

// Verdict says how a failed dial is retried.
type Verdict struct {
	// Park stops dialing for RetryAfter, or 5 minutes when that is 0, unless
	// Retry, Rotate or Replace come first.
	Park bool
	// RetryAfter is the least time to wait before the next dial; 0 leaves it
	// to the backoff.
	RetryAfter time.Duration
	// LongestBackoff bounds the backoff after this failure; 0 means 60 s.
	LongestBackoff time.Duration
}

// Options are what a pool is made of. Only Dial is required.
type Options[C Conn] struct {
	// Dial makes the connections of the first generation.
	Dial DialFunc[C]
	// Probe checks the health of one connection, idle or busy.
	Probe func(context.Context, C) error
	// Judge decides how a dial failure is retried; nil means always backoff.
	Judge func(error) Verdict
	// MayInsist reports whether a target whose backoff goes on may be dialed now for a
	// caller of Insist; nil means that it may. It is called with the lock held, so it
	// must not call the pool.
	MayInsist func() bool
	// Dropped is told of a connection that died before it was Steady, and why: the
	// dial that made it proved little. Of several that were lost together it is told
	// of one. Each call comes on a goroutine of its own.
	Dropped func(conn C, cause error)
	// Notify is called after a transition that Stats shows: connection gained or
	// lost, dial failed or succeeded, parked, probe threshold crossed, rotation
	// proven or failed; not for each lease. Calls come without the pool's lock,
	// concurrently, from inside any method, and even before New returns: it must
	// neither block nor take a lock that callers of the pool hold.
	Notify func()
	// Waits is called after a caller has begun to wait for a connection, as Notify is.
	Waits func()
	// Loaded is told each change of the load, nil if that is of no interest. It is called
	// with the lock held, so it must not call the pool.
	Loaded func(Load)
	// Random returns numbers in [0, 1) for backoff and jitter, one call at a
	// time; nil means math/rand.
	Random func() float64
	// Limits are the first limits.
	Limits Limits
}

// Pool is a bounded set of warm connections. Its methods are safe for
// concurrent use.
//
// The rule of the lock: mu guards everything in s and every connection, lease,
// waiter and generation reachable from it. Methods of state run with the lock
// held, and neither block, nor do I/O, nor call back: for that they start a
// goroutine, which takes the lock again when it is done. Methods of Pool take the
// lock. Every method that changes more than the count of leases calls settle
// before it unlocks, so between calls the state is always settled.
type Pool[C Conn] struct {
	probe     func(context.Context, C) error
	judge     func(error) Verdict
	mayInsist func() bool
	dropped   func(C, error)
	notify    func()
	waits     func()
	loaded    func(Load)
	random    func() float64
	// start is the origin of all instants; durations since then are monotonic.
	start time.Time
	// done is closed when all is closed.
	done chan struct{}
	// waiters holds waiters that may be used again.
	waiters sync.Pool

	mu sync.Mutex
	s  state[C]
}

// instant is a monotonic time: the duration since the pool's start. 0 is never.
type instant = time.Duration

// New makes a pool and starts to warm it; it does not wait for that.
func New[C Conn](opts Options[C]) *Pool[C] {
	p := &Pool[C]{
		probe:     opts.Probe,
		judge:     opts.Judge,
		mayInsist: opts.MayInsist,
		dropped:   opts.Dropped,
		notify:    opts.Notify,
		waits:     opts.Waits,
		loaded:    opts.Loaded,
		random:    opts.Random,
		start:     time.Now().Add(-1), // so that no instant is 0
		done:      make(chan struct{}),
	}
	if p.judge == nil {
		p.judge = func(error) Verdict { return Verdict{} }
	}
	if p.mayInsist == nil {
		p.mayInsist = func() bool { return true }
	}
	if p.dropped == nil {
		p.dropped = func(C, error) {}
	}
	if p.notify == nil {
		p.notify = func() {}
	}
	if p.waits == nil {
		p.waits = func() {}
	}
	if p.loaded == nil {
		p.loaded = func(Load) {}
	}
	if p.random == nil {
		p.random = rand.Float64
	}
	p.mu.Lock()
	p.s.pool = p
	p.s.gen = p.s.generation(opts.Dial)
	p.s.setLimits(opts.Limits)
	p.s.timer = time.AfterFunc(time.Hour, p.tick)
	p.s.settle(p.now())
	p.unlock()
	return p
}

// now is the current instant; never 0.
func (p *Pool[C]) now() instant { return time.Since(p.start) }

// at converts an instant for the outside.
func (p *Pool[C]) at(t instant) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return p.start.Add(t)
}

// change runs act under the lock, settles, and notifies if there was a
// transition.
func (p *Pool[C]) change(act func(s *state[C], now instant)) {
	now := p.now()
	p.mu.Lock()
	act(&p.s, now)
	p.s.settle(now)
	p.unlock()
}

// unlock ends a critical section, wakes the callers whom it has answered, and reports its
// transitions.
func (p *Pool[C]) unlock() {
	p.s.reportLoad()
	changed, answers := p.s.changed, p.s.answers
	p.s.changed, p.s.answers = false, nil
	p.mu.Unlock()
	answers.wake()
	if changed {
		p.notify()
	}
}

// SetLimits replaces the limits of a live pool. Connections beyond the new
// maximum are drained; those that are now too old or used up are retired.
func (p *Pool[C]) SetLimits(limits Limits) {
	p.change(func(s *state[C], _ instant) { s.setLimits(limits) })
}

// Rotate gives the pool new credentials for the same target. It dials one
// connection with dial and probes it; only then are the old connections
// replaced, each leaving when its successor is warm. Until then, and for as
// long as the new credentials fail, the old ones keep serving and dialing;
// Stats.Rotation tells. With no old connection alive dial is adopted at once.
func (p *Pool[C]) Rotate(dial DialFunc[C]) {
	p.change(func(s *state[C], _ instant) { s.rotate(dial) })
}

// Replace points the pool at another target or user. Nothing dialed before is
// ever leased again; running leases may finish within Limits.DrainTimeout.
func (p *Pool[C]) Replace(dial DialFunc[C]) {
	p.change(func(s *state[C], now instant) { s.replace(dial, now) })
}

// Retry forgets backoff and parking: whatever is wanted is dialed now.
func (p *Pool[C]) Retry() {
	p.change(func(s *state[C], _ instant) {
		s.gen.streak.forgive()
		if s.next != nil {
			s.next.streak.forgive()
		}
	})
}

// Hold runs use while it keeps a slot of one connection, as a lease would but
// counted nowhere, and reports whether one was free. A check of the connection
// must neither exceed its limit nor overtake callers who wait. If what use has started
// may not have ended, it returns what Lease.LeaveBehind takes, else nil.
func (p *Pool[C]) Hold(of C, use func() (leftover <-chan struct{})) bool {
	c := p.hold(of)
	if c == nil {
		return false
	}
	leftover := use()
	p.change(func(s *state[C], _ instant) {
		c.leased--
		s.reindex(c)
		if leftover != nil {
			s.leaveBehind(c, leftover)
		}
	})
	return true
}

// hold takes a slot of a connection; nil if none is free.
func (p *Pool[C]) hold(of C) *conn[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.s.conns {
		if any(c.conn) == any(of) && c.elem.In != nil {
			c.leased++
			p.s.reindex(c)
			return c
		}
	}
	return nil
}

// Recycle retires one connection: it serves until its successor is warm and is
// then drained. It reports whether the pool serves with a connection of that ID.
func (p *Pool[C]) Recycle(id uint64) bool {
	found := false
	p.change(func(s *state[C], _ instant) {
		for _, c := range s.conns {
			if c.id == id && c.serves() {
				found = true
				s.move(c, retiring)
			}
		}
	})
	return found
}

// RecycleAll retires every connection that is not retiring yet, and returns how
// many these are. Connections that are being dialed are retired as soon as they are
// made.
func (p *Pool[C]) RecycleAll() (retired int) {
	p.change(func(s *state[C], _ instant) {
		s.recycles++
		retired = s.retire(func(*conn[C]) bool { return true })
	})
	return retired
}

// Drain refuses new leases, lets running ones finish for up to
// Limits.DrainTimeout or until ctx ends, and returns when everything is
// closed. The error is nil if no lease was cut, else says what ended the wait.
func (p *Pool[C]) Drain(ctx context.Context) error {
	var patience time.Duration
	p.change(func(s *state[C], _ instant) {
		patience = s.limits.DrainTimeout
		s.end()
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if cut := p.closeAll(); cut > 0 {
		return ctx.Err()
	}
	return nil
}

// Close cuts every lease and returns when everything is closed: connections,
// dials and probes. It always returns nil.
func (p *Pool[C]) Close() error {
	p.closeAll()
	return nil
}

// closeAll closes every connection, also those in use, waits until all is closed,
// and returns how many connections carried leases.
func (p *Pool[C]) closeAll() (cut int) {
	p.change(func(s *state[C], _ instant) {
		s.end()
		s.probes.cut()
		for _, c := range s.conns {
			if c.state == draining {
				cut++
				s.move(c, closing)
			}
		}
	})
	<-p.done
	return cut
}
