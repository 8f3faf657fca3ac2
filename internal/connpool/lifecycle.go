package connpool

import "time"

// Pure decisions: what is due when, and how many dials are wanted.

// maxJitter is the part of a period by which things may come earlier, so that
// connections made together do not age or get probed together.
const maxJitter = 0.1

// due reports whether an instant has come; 0 never comes.
func due(at, now instant) bool { return at > 0 && at <= now }

// earlier returns the first of two instants, of which 0 never comes.
func earlier(a, b instant) instant {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// early is a period shortened by its jitter, which is in [0, 1).
func early(period time.Duration, jitter float64) time.Duration {
	return period - time.Duration(maxJitter*jitter*float64(period))
}

// expiry is when a connection is too old; 0 is never.
func (l Limits) expiry(created instant, jitter float64) instant {
	if l.MaxAge <= 0 {
		return 0
	}
	return created + early(l.MaxAge, jitter)
}

// usedUp reports whether a connection had all its uses.
func (l Limits) usedUp(uses int64) bool { return l.MaxUses > 0 && uses >= l.MaxUses }

// worn reports whether a connection is to be replaced.
func (l Limits) worn(created instant, jitter float64, uses int64, now instant) bool {
	return l.usedUp(uses) || due(l.expiry(created, jitter), now)
}

// drained reports whether a draining connection is to be closed.
func drained(leased int, cutoff, now instant) bool { return leased == 0 || due(cutoff, now) }

// idleDue is when a connection has been idle for too long, at the earliest. The
// idle time of a leased one has not begun. 0 is never.
func (l Limits) idleDue(leased int, lastUsed, now instant) instant {
	if l.MaxIdle <= 0 {
		return 0
	}
	if leased > 0 {
		return now + l.MaxIdle
	}
	return lastUsed + l.MaxIdle
}

// probeDue is when a connection is to be probed again; 0 is never.
func (l Limits) probeDue(probed instant, jitter float64) instant {
	if l.ProbePeriod <= 0 {
		return 0
	}
	return probed + early(l.ProbePeriod, jitter)
}

// demand is what decides how many dials to start.
type demand struct {
	// minWarm, max and slots are limits.
	minWarm, max, slots int
	// fresh to closing count connections by phase.
	fresh, retiring, draining, closing int
	// dialing counts dials of the current generation, stale those of others.
	dialing, stale int
	waiters        int
	// recover asks for one dial even if nothing else does.
	recover bool
	// cautious is set while the target is not known to take a dial: then one dial at
	// a time, so that a bad key is offered once and not once for each connection.
	cautious bool
}

// dials is how many dials to start now.
func (d demand) dials() int { return max(0, min(d.missing(), d.room())) }

// missing is how many dials are wanted beside those that run: enough to keep
// minWarm, to give each waiter a slot and each retiring connection a successor,
// and one to find out whether the target has recovered.
func (d demand) missing() int {
	forWaiters := (d.waiters + d.slots - 1) / d.slots
	wanted := max(d.minWarm-d.fresh, forWaiters, d.retiring)
	if d.recover {
		wanted = max(wanted, 1)
	}
	if d.cautious {
		wanted = min(wanted, 1)
	}
	return wanted - d.dialing
}

// room is how many connections may be dialed. Those on their way out have
// their own allowance, so that leases which take long do not starve others.
func (d demand) room() int {
	taken := d.dialing + d.stale + d.fresh + d.closing
	return min(d.max-taken, 2*d.max-taken-d.retiring-d.draining)
}
