package connpool

import (
	"context"
	"time"
)

// outcome is how one dial ended.
type outcome[C Conn] struct {
	began instant
	took  time.Duration
	conn  C
	err   error
	// verdict is what to do about err.
	verdict Verdict
}

// startDial dials one connection in the background.
func (s *state[C]) startDial(g *generation[C], now instant) {
	s.dialing++
	g.dialing++
	proof := g == s.next
	go s.pool.dial(g, s.limits, proof, now)
}

// dial makes a connection and hands it over.
func (p *Pool[C]) dial(g *generation[C], limits Limits, proof bool, began instant) {
	o := p.connect(g, limits, proof)
	o.began = began
	if o.err != nil {
		o.verdict = p.judge(o.err)
		p.change(func(s *state[C], now instant) { s.dialFailed(g, o, now) })
		return
	}
	c := &conn[C]{conn: o.conn, gen: g}
	c.elem.value = c
	c.unwatch = context.AfterFunc(o.conn.Context(), func() { p.died(c) })
	p.change(func(s *state[C], now instant) { s.dialed(c, o, now) })
}

// connect dials. A connection that is to prove its generation is probed before it
// is used; one that is dead already counts as a failed dial.
func (p *Pool[C]) connect(g *generation[C], limits Limits, proof bool) (o outcome[C]) {
	ctx, cancel := context.WithTimeout(g.ctx, limits.DialTimeout)
	defer cancel()
	began := p.now()
	o.conn, o.err = g.dial(ctx)
	o.took = p.now() - began
	if o.err != nil {
		return o
	}
	if proof && p.probe != nil {
		o.err = p.tryProbe(g.ctx, o.conn, limits)
	}
	if o.err == nil {
		o.err = context.Cause(o.conn.Context())
	}
	if o.err != nil {
		_ = o.conn.Close()
	}
	return o
}

// current reports whether connections of a generation are still wanted.
func (s *state[C]) current(g *generation[C]) bool {
	return !s.ended && (g == s.gen || g == s.next)
}

// dialFailed records a failed dial.
func (s *state[C]) dialFailed(g *generation[C], o outcome[C], now instant) {
	s.dialing--
	g.dialing--
	if !s.current(g) {
		s.tally.dials.Abandoned++
		return
	}
	s.tally.dials.Failed++
	s.changed = true
	g.streak.failed(o.err, o.verdict, o.began, now, s.pool.random())
}

// dialed adds a new connection and serves the oldest waiters with it. It closes the
// connection again if its generation is no longer wanted.
func (s *state[C]) dialed(c *conn[C], o outcome[C], now instant) {
	s.dialing--
	c.gen.dialing--
	s.add(c, now)
	if !s.current(c.gen) {
		s.tally.dials.Abandoned++
		s.move(c, closing)
		return
	}
	s.tally.dials.Succeeded++
	s.tally.dials.Time += o.took
	c.gen.proven = true
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

// abandon forgets credentials that have not been proven.
func (s *state[C]) abandon() {
	if s.next != nil {
		s.next.cancel()
		s.next = nil
	}
}

func (s *state[C]) supersede(g *generation[C]) {
	s.gen.cancel()
	s.gen, s.next = g, nil
	s.changed = true
	s.resize()
}
