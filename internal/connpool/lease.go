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
// Discard, Narrow or LeaveBehind. A second call does nothing, unless the lease was handed
// to another caller in between: leases are reused, so drop the pointer.
type Lease[C Conn] struct {
	pool *Pool[C]
	// conn is nil when the lease has ended.
	conn  *conn[C]
	spare *Lease[C]
	// beside is how many leases the connection carried when this one came.
	beside int
	how    How
	wait   time.Duration
}

// Acquire leases a connection. Callers wait in order of arrival, bounded by
// Limits.MaxPending and Limits.AcquireTimeout; a target known to be down fails
// at once. Errors: ErrClosed, ErrPaused, ErrExhausted, *DownError, or that of ctx.
func (p *Pool[C]) Acquire(ctx context.Context) (*Lease[C], error) {
	return p.acquire(ctx, "", false, false)
}

// Insist is Acquire for a caller who wants to know how the target is now: if it is known
// to be down, and the last dial has ended InsistGap ago, it is dialed although the
// backoff goes on. All callers share that one dial, and get its error if it fails. A
// target that is parked, or that asked for a wait, fails at once.
func (p *Pool[C]) Insist(ctx context.Context) (*Lease[C], error) { return p.InsistAs(ctx, "") }

// InsistAs is Insist for one of several users, told apart by any name: those who wait get
// free slots in turn, however many callers each of them has.
func (p *Pool[C]) InsistAs(ctx context.Context, user string) (*Lease[C], error) {
	return p.acquire(ctx, user, true, false)
}

// SpreadAs is InsistAs for a use that would fill a connection by itself: of the free slots
// that there are it gets one of the connection with the fewest leases.
func (p *Pool[C]) SpreadAs(ctx context.Context, user string) (*Lease[C], error) {
	return p.acquire(ctx, user, true, true)
}

func (p *Pool[C]) acquire(ctx context.Context, user string, insist, spread bool) (*Lease[C], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.s.refuse == nil {
		if c := p.s.pickFor(spread); c != nil {
			l := p.s.lease(c, Warm, 0)
			p.s.reportLoad()
			p.mu.Unlock()
			return l, nil
		}
	}
	now := p.now()
	if insist {
		p.s.insist(now)
	}
	w, err := p.s.queue(user, now)
	p.unlock()
	if err != nil {
		return nil, err
	}
	p.waits()
	return p.await(ctx, w)
}

// Conn returns the leased connection.
func (l *Lease[C]) Conn() C { return l.conn.conn }

// ID is the ID of the leased connection, as in ConnStats.
func (l *Lease[C]) ID() uint64 { return l.conn.id }

// How says how the lease was got.
func (l *Lease[C]) How() How { return l.how }

// Wait is how long Acquire waited; 0 for Warm.
func (l *Lease[C]) Wait() time.Duration { return l.wait }

// Release gives the lease back.
func (l *Lease[C]) Release() {
	p := l.pool
	now := p.now()
	p.mu.Lock()
	if c := p.s.unlease(l); c != nil {
		p.s.used(c, now)
		p.s.reuse(c, now)
	}
	p.unlock()
}

// reuse gives the slot of an ended lease to the next caller. A connection that
// is, or now becomes, worn needs more.
func (s *state[C]) reuse(c *conn[C], now instant) {
	s.reindex(c)
	if c.state != fresh || s.limits.usedUp(c.uses) {
		s.settle(now)
		return
	}
	s.serve(Queued, now)
}

// Discard gives the lease back and says that its connection is broken: it is
// not leased again, and closed when its other leases have ended.
func (l *Lease[C]) Discard() {
	l.pool.change(func(s *state[C], now instant) {
		if c := s.unlease(l); c != nil {
			s.used(c, now)
			s.move(c, draining)
		}
	})
}

// Narrow gives the lease back, not counted as a use, and says that the server
// refused one channel more. From then on no connection carries more leases than
// this one carried when the lease came, or carries without it now if those are
// more, since they may have opened their channels first; but at least one.
// The cap is forgotten with the connection on which it was learned: when that is to
// be replaced or is lost, and with its generation. So a passing limit is forgotten
// within Limits.MaxAge, and a lasting one is learned again at the price of one
// refusal, which proves that nothing was started.
//
// Where leftovers have taken channels, a refusal teaches nothing about the server's
// limit. It shows that the connection has no more room, so that one is drained.
func (l *Lease[C]) Narrow() {
	l.pool.change(func(s *state[C], _ instant) {
		switch c := s.unlease(l); {
		case c == nil:
		case c.tainted:
			s.move(c, draining)
		default:
			s.lowerCap(c, max(l.beside, c.leased))
			s.reindex(c)
		}
	})
}

// LeaveBehind gives the lease back and says that what ran on it may not have ended: it
// is a leftover, which occupies the slot until ended is closed, at the latest with the
// connection. That is replaced: until then it serves with the slots that are left, and
// it is not kept for the sake of leftovers.
func (l *Lease[C]) LeaveBehind(ended <-chan struct{}) {
	l.pool.change(func(s *state[C], now instant) {
		if c := s.unlease(l); c != nil {
			s.used(c, now)
			s.leaveBehind(c, ended)
		}
	})
}

func (s *state[C]) leaveBehind(c *conn[C], ended <-chan struct{}) {
	c.leftovers, c.tainted = c.leftovers+1, true
	s.reindex(c)
	s.move(c, retiring)
	go func() {
		<-ended
		s.pool.change(func(s *state[C], now instant) {
			c.leftovers--
			s.reindex(c)
			if c.conn.Context().Err() != nil { // it ended with its connection: the slot is of no use
				s.died(c, now)
			}
		})
	}()
}
