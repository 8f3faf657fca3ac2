package connpool

import (
	"context"
	"time"
)

// outcome is how one dial ended.
type outcome[C Conn] struct {
	took time.Duration
	conn C
	err  error
	// verdict is what to do about err.
	verdict Verdict
}

// dialAttempt is one dial.
type dialAttempt[C Conn] struct {
	gen *generation[C]
	// scope is cut, under the pool's lock, when the connection is no longer wanted.
	scope  *scope
	limits Limits
	// proof asks for a probe of the connection before it is used.
	proof bool
	// began is when the dial was started, recycles is state.recycles at that time.
	began    instant
	recycles int
	// insists is set for a caller of Insist; insisted also says that without that
	// caller the backoff would have gone on.
	insists, insisted bool
}

// startDial dials one connection in the background.
func (s *state[C]) startDial(g *generation[C], now instant) { s.start(dialAttempt[C]{gen: g}, now) }

// start begins an attempt, of which only the generation and for whom it is are set.
func (s *state[C]) start(a dialAttempt[C], now instant) {
	s.dialing++
	a.gen.dialing++
	a.scope, a.limits, a.proof, a.began, a.recycles = a.gen.dials.enter(), s.limits, a.gen == s.next, now, s.recycles
	go s.pool.dial(a)
}

// insist starts a dial for a caller who does not take an old failure for an answer, if
// nothing serves and no dial runs. During a backoff that is one dial in InsistGap, which
// all callers share, and none while the target is parked or asked for a wait.
func (s *state[C]) insist(now instant) {
	g := s.gen
	if s.refuse != nil || s.serving() > 0 || g.dialing > 0 || s.wanted().room() < 1 {
		return
	}
	backedOff := g.streak.waits(now)
	if backedOff && (now < g.streak.asked || now < g.dialed+InsistGap || !s.pool.mayInsist()) {
		return
	}
	s.start(dialAttempt[C]{gen: g, insists: true, insisted: backedOff}, now)
}

// insistsKey is the key of the mark that Insists looks for.
type insistsKey struct{}

// Insisting returns a context of which Insists is true.
func Insisting(ctx context.Context) context.Context {
	return context.WithValue(ctx, insistsKey{}, true)
}

// Insists reports whether the context is that of a dial for a caller of Insist, so that
// what is on the way to the target should not be refused for an old failure either.
func Insists(ctx context.Context) bool { return ctx.Value(insistsKey{}) != nil }

// dial makes a connection and hands it over.
func (p *Pool[C]) dial(a dialAttempt[C]) {
	o := p.connect(a)
	if o.err != nil {
		o.verdict = p.judge(o.err)
		p.change(func(s *state[C], now instant) { s.dialFailed(a, o, now) })
		return
	}
	c := &conn[C]{conn: o.conn, gen: a.gen}
	c.elem.Value = c
	c.unwatch = context.AfterFunc(o.conn.Context(), func() { p.died(c) })
	p.change(func(s *state[C], now instant) { s.dialed(c, a, o, now) })
}

// connect dials. A connection that is to prove its generation is probed before it
// is used; one that is dead already counts as a failed dial.
func (p *Pool[C]) connect(a dialAttempt[C]) (o outcome[C]) {
	ctx, cancel := context.WithTimeout(a.scope.ctx, a.limits.DialTimeout)
	defer cancel()
	if a.insists {
		ctx = Insisting(ctx)
	}
	began := p.now()
	o.conn, o.err = a.gen.dial(ctx)
	o.took = p.now() - began
	if o.err != nil {
		return o
	}
	if a.proof && p.probe != nil {
		o.err = p.tryProbe(a.scope.ctx, o.conn, a.limits)
	}
	if o.err == nil {
		o.err = context.Cause(o.conn.Context())
	}
	if o.err != nil {
		_ = o.conn.Close()
	}
	return o
}

// dialFailed records a failed dial.
func (s *state[C]) dialFailed(a dialAttempt[C], o outcome[C], now instant) {
	s.dialing--
	a.gen.dialing--
	if a.gen.dials.leave(a.scope) {
		s.tally.dials.Abandoned++
		return
	}
	s.tally.dials.Failed++
	s.changed = true
	a.gen.dialed = now
	a.gen.streak.failed(failedDial{o.err, o.verdict, a.began, a.insisted}, now, s.pool.random())
}

// dialed adds a new connection and serves the oldest waiters with it. It closes the
// connection again if that is no longer wanted. One whose dial began before all
// connections were recycled is retired with them.
func (s *state[C]) dialed(c *conn[C], a dialAttempt[C], o outcome[C], now instant) {
	s.dialing--
	c.gen.dialing--
	s.add(c, now)
	if c.gen.dials.leave(a.scope) {
		s.tally.dials.Abandoned++
		s.move(c, closing)
		return
	}
	s.tally.dials.Succeeded++
	s.tally.dials.Time += o.took
	c.gen.proven, c.gen.dialed = true, now
	c.gen.streak.succeeded()
	if c.gen == s.next {
		s.adopt()
	}
	s.move(c, fresh)
	if c.cause != nil {
		s.closeDead(c, now)
		return
	}
	s.serve(Dialed, now)
	if a.recycles != s.recycles {
		s.move(c, retiring)
		return
	}
	s.releaseOneRetiring()
}

// releaseOneRetiring lets one retiring connection go, because a successor is there:
// an unused one, else the oldest.
func (s *state[C]) releaseOneRetiring() {
	var oldest *conn[C]
	for _, c := range s.conns {
		if c.state != retiring {
			continue
		}
		if c.leased == 0 {
			oldest = c
			break
		}
		if oldest == nil {
			oldest = c
		}
	}
	if oldest != nil {
		s.move(oldest, draining)
	}
}

// rotate takes new credentials: on trial if a connection serves, else at once.
func (s *state[C]) rotate(dial DialFunc[C]) {
	if s.ended {
		return
	}
	s.abandon()
	s.next = s.generation(dial)
	if s.serving() == 0 {
		s.adopt()
	}
}

// adopt makes the next generation the one that counts.
func (s *state[C]) adopt() {
	s.supersede(s.next)
	s.retire(func(c *conn[C]) bool { return c.gen != s.gen })
}

// replace takes another target: connections made for the old one are never leased
// again.
func (s *state[C]) replace(dial DialFunc[C], now instant) {
	if s.ended {
		return
	}
	s.abandon()
	s.supersede(s.generation(dial))
	s.drop(now + s.limits.DrainTimeout)
}

// giveUpDials ends the dials that run; what they make nevertheless is closed.
func (s *state[C]) giveUpDials() {
	s.gen.dials.cut()
	if s.next != nil {
		s.next.dials.cut()
	}
}

// abandon forgets credentials that have not been proven.
func (s *state[C]) abandon() {
	if s.next != nil {
		s.next.dials.cut()
		s.next = nil
	}
}

func (s *state[C]) supersede(g *generation[C]) {
	s.gen.dials.cut()
	s.gen, s.next = g, nil
	s.changed = true
	s.resize()
}
