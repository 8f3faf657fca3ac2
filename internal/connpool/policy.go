package connpool

import "context"

// maxProbes bounds the probes of one pool that run at once.
const maxProbes = 4

// tick settles when something is due. The timer has fired, so a caller that read the
// clock before and gets the lock later must not rely on the alarm.
func (p *Pool[C]) tick() { p.change(func(s *state[C], _ instant) { s.alarm = 0 }) }

// settle makes the pool what its limits want it to be now, as far as that is
// possible without waiting, and sets the timer for the rest. It may be called
// at any time and does nothing when there is nothing to do.
func (s *state[C]) settle(now instant) {
	s.retireWorn(now)
	if !s.ended {
		s.trim(now)
		s.serve(Queued, now)
		s.dialWanted(now)
		s.tryRotation(now)
	}
	s.dismiss(now)
	s.probeDue(now)
	s.armTimer(now)
	s.finish()
}

// retireWorn retires connections that are too old or used up, and closes those that
// have drained.
func (s *state[C]) retireWorn(now instant) {
	for _, c := range s.conns {
		switch {
		case c.state == fresh && s.limits.worn(c.created, c.jitter, c.uses, now):
			s.move(c, retiring)
		case c.state == draining && drained(c.leased, c.cutoff, now):
			s.move(c, closing)
		}
	}
}

// trim lets go of connections beyond what the limits allow or need.
func (s *state[C]) trim(now instant) {
	for s.count[fresh] > s.limits.Max {
		s.move(s.coldest(), draining)
	}
	for _, c := range s.conns {
		if c.state == retiring && s.dispensable(c) {
			s.move(c, draining)
		}
	}
	for s.count[fresh] > s.limits.MinWarm {
		c := s.coldest()
		if c.leased > 0 || !due(s.limits.idleDue(c.leased, c.lastUsed, now), now) {
			return
		}
		s.move(c, closing)
	}
}

// coldest returns the fresh connection that is needed least: the one with the
// fewest leases, then the one unused for longest.
func (s *state[C]) coldest() *conn[C] {
	var coldest *conn[C]
	for _, c := range s.conns {
		if c.state != fresh {
			continue
		}
		if coldest == nil || c.leased < coldest.leased ||
			c.leased == coldest.leased && c.lastUsed < coldest.lastUsed {
			coldest = c
		}
	}
	return coldest
}

// dispensable reports whether a retiring connection needs no successor: it carries
// no lease and there are enough others, or no more may be dialed.
func (s *state[C]) dispensable(c *conn[C]) bool {
	if s.count[fresh] >= s.limits.Max {
		return true
	}
	return c.leased == 0 && s.waiting == 0 && s.serving() > s.limits.MinWarm
}

// dialWanted starts the dials that are wanted and due.
func (s *state[C]) dialWanted(now instant) { s.dialFor(0, now) }

// dialFor is dialWanted with a number of callers that want a slot but may not wait.
func (s *state[C]) dialFor(refused int, now instant) {
	if s.refuse != nil || s.count[fresh] >= s.limits.Max || s.gen.streak.waits(now) {
		return
	}
	wanted := s.wanted()
	wanted.waiters += refused
	for range wanted.dials() {
		s.startDial(s.gen, now)
	}
}

// wanted returns what decides how many dials to start.
func (s *state[C]) wanted() demand {
	d := demand{
		minWarm:  s.limits.MinWarm,
		max:      s.limits.Max,
		slots:    s.slots,
		fresh:    s.count[fresh],
		retiring: s.count[retiring],
		draining: s.count[draining],
		closing:  s.count[closing],
		dialing:  s.gen.dialing,
		stale:    s.dialing - s.gen.dialing,
		waiters:  s.waiting,
		recover:  s.limits.Recover && (s.gen.streak.failures > 0 || s.serving() == 0),
		cautious: !s.gen.proven || s.gen.streak.failures > 0,
	}
	if s.next != nil {
		d.stale -= s.next.dialing
	}
	return d
}

// tryRotation dials with the new credentials when that is due. It adopts them
// unproven when the old ones serve nothing any more.
func (s *state[C]) tryRotation(now instant) {
	switch {
	case s.next == nil || s.refuse != nil:
	case s.spent(now):
		s.adopt()
		s.dialWanted(now)
	case s.next.dialing == 0 && !s.next.streak.waits(now):
		s.startDial(s.next, now)
	}
}

// spent reports whether the current generation has no connection that serves, and
// dialing it again has failed or is not wanted.
func (s *state[C]) spent(now instant) bool {
	if s.serving() > 0 || s.gen.dialing > 0 {
		return false
	}
	return s.gen.streak.waits(now) || s.wanted().missing() <= 0
}

// probeDue starts the probes that are due.
func (s *state[C]) probeDue(now instant) {
	for _, c := range s.conns {
		if s.probing < maxProbes && due(s.nextProbe(c), now) {
			s.probing++
			c.probing = true
			c.probed = now
			go s.pool.probeConn(c, s.probes.enter(), s.limits)
		}
	}
}

// nextProbe is when a connection is to be probed; 0 is never.
func (s *state[C]) nextProbe(c *conn[C]) instant {
	if s.pool.probe == nil || c.probing || c.state >= closing {
		return 0
	}
	return s.limits.probeDue(c.probed, c.jitter)
}

// probeConn probes a connection, whether idle or busy.
func (p *Pool[C]) probeConn(c *conn[C], in *scope, limits Limits) {
	err := p.tryProbe(in.ctx, c.conn, limits)
	p.change(func(s *state[C], now instant) {
		s.probes.leave(in)
		s.probed(c, err, now)
	})
}

// tryProbe probes until the timeout, or until the connection is closed.
func (p *Pool[C]) tryProbe(ctx context.Context, c C, limits Limits) error {
	ctx, cancel := context.WithTimeout(ctx, limits.ProbeTimeout)
	defer cancel()
	defer context.AfterFunc(c.Context(), cancel)() //nolint:contextcheck // the connection has a life of its own
	return p.probe(ctx, c)
}

// probed records a probe's result and closes a connection that failed too often.
func (s *state[C]) probed(c *conn[C], err error, now instant) {
	s.probing--
	c.probing = false
	if c.state >= closing {
		return
	}
	if s.tally.probe.note(err, s.limits.ProbeFailures) {
		s.changed = true
	}
	if err == nil {
		s.tally.probes.Succeeded++
		c.probeFailures = 0
		return
	}
	s.tally.probes.Failed++
	c.probeFailures++
	if c.probeFailures >= s.limits.ProbeFailures {
		c.cause = err
		s.closeDead(c, now)
	}
}

// armTimer sets the timer for the next thing that is due.
func (s *state[C]) armTimer(now instant) { s.fireBy(s.nextDue(now), now) }

// fireBy makes the timer fire at an instant, unless it fires before.
func (s *state[C]) fireBy(at, now instant) {
	if at == 0 || s.alarm > now && s.alarm <= at {
		return
	}
	s.alarm = at
	s.timer.Reset(at - now)
}

// nextDue is when settle has something to do again; 0 is never.
func (s *state[C]) nextDue(now instant) instant {
	var next instant
	for _, c := range s.conns {
		if s.probing < maxProbes {
			next = earlier(next, s.nextProbe(c))
		}
		switch {
		case c.state == draining:
			next = earlier(next, c.cutoff)
		case c.state == fresh && !s.ended:
			next = earlier(next, s.limits.expiry(c.created, c.jitter))
			if s.count[fresh] > s.limits.MinWarm {
				next = earlier(next, s.limits.idleDue(c.leased, c.lastUsed, now))
			}
		}
	}
	return earlier(earlier(next, s.overdueAt()), s.nextDial(now))
}

// nextDial is when a backoff ends after which a dial is wanted; 0 is never.
func (s *state[C]) nextDial(now instant) instant {
	var next instant
	if s.refuse != nil {
		return 0
	}
	if s.gen.streak.waits(now) && s.wanted().dials() > 0 {
		next = s.gen.streak.next
	}
	if s.next != nil && s.next.dialing == 0 {
		next = earlier(next, s.next.streak.next)
	}
	return next
}
