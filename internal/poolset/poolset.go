// Package poolset holds all live pools of this process, by the UIDs of their
// objects.
//
// It is the one place where what is declared and what is requested meet.
// Controllers apply desired targets (Ensure, Remove) and read snapshots (Observe,
// Snapshot, Connections). Request handlers take a lease (Acquire), run commands
// (ExecOn) and give the lease back (Return). Neither side knows the other. No method
// dials or waits for a remote, except Acquire, ExecOn and Check on behalf of their
// callers, and Close.
//
// Each pair of pool and target is a member with one connection pool. How a target is
// reached is the business of package reach, below: the members of a target share
// what was learned of its access, and all targets behind a jump host share its
// connections. The files depend on each other in one direction: health, desired and
// observation; member; roster; route, ensure and check; Set, which is the whole; and
// lease.
//
// Order of locks: that of the checks, that of the roster, those of package reach,
// that of a member, that of its connection pool, that of a routing table.
//
// Trade-offs: one lock for the maps, held for microseconds, instead of one for each
// target; every use of a target mends the order in which its pool's targets have their
// turns (package routing), also if no request leaves the choice to the pool.
package poolset

import (
	"cmp"
	"context"
	"sync/atomic"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset/routing"
	"github.com/connpool/connpool/internal/reach"
)

// Set is all live pools of a process. Its methods are safe for concurrent use;
// Ensure and Remove for one target must not run at the same time.
type Set struct {
	notify     atomic.Pointer[func(Ref)]
	background *background.Work
	network    *reach.Network
	roster     *roster
	applier    *applier
	checks     *checks
	problems   problems
}

// New makes an empty set. Streams from the operator's own network are opened by
// egress, and dials stay within the budget.
func New(egress driver.DialFunc, budget *dialbudget.Budget) *Set {
	s := &Set{background: background.New(), roster: &roster{
		targets: map[string]*target{}, pools: map[string]map[string]*member{}, turns: map[string]*routing.Table[*member]{},
		leaving: map[*member]string{}, departed: map[departedKey]PoolObservation{},
	}}
	s.network = reach.New(egress, budget, s.background, s.changed)
	s.applier = &applier{roster: s.roster, network: s.network, background: s.background, notify: s.changed}
	s.problems.byTarget = map[string]*driver.Error{}
	s.checks = &checks{applier: s.applier, background: background.New(), byTarget: map[string]*check{}}
	return s
}

// Subscribe sets the function that is told which target has changed: a connection
// gained or lost, a dial, or a change of health; not a lease. The function must
// neither block nor call the set; it replaces the one of an earlier call.
func (s *Set) Subscribe(notify func(Ref)) { s.notify.Store(&notify) }

// Measure sets the meter of the targets that are ensured from now on.
func (s *Set) Measure(meter Meter) { s.applier.meter = meter }

// LimitConnections bounds how many connections the targets of one namespace may have;
// 0 is no bound. More are not dialed, with the reason ConnectionLimit. Those that live
// stay.
func (s *Set) LimitConnections(perNamespace int) { s.network.LimitConnections(perNamespace) }

func (s *Set) changed(ref Ref) {
	if notify := s.notify.Load(); notify != nil {
		(*notify)(ref)
	}
}

// Ensure makes the pools of a target as wanted and returns at once; connections
// follow in the background. A *PreparingError means that it is not known yet whether
// the access can be used: subscribers are told when Ensure is to be called again. A
// *driver.Error means that it cannot be used as given. In both cases connections made
// earlier for the same host and account keep serving, under the new policies, unless it
// is the changed pins that are wrong.
func (s *Set) Ensure(want Target) error { return s.applier.ensure(want) }

// Remove forgets a target, and what was explained of it. What runs on it may finish within a short grace; new
// requests do not find it any more.
func (s *Set) Remove(uid string) {
	s.Explain(uid, nil)
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	s.applier.remove(uid, removalGrace)
	s.network.Forget(uid)
}

// Observe returns what is true of a target, and false if the set has none of
// that UID, not even as a jump host.
func (s *Set) Observe(uid string) (o Observation, ok bool) {
	ref, pool := s.network.JumpHost(uid)
	if pool != nil {
		o.JumpHost, o.ServerVersion, o.Warning = observeJumpHost(ref, pool), pool.ServerVersion(), pool.Warning()
	}
	s.roster.mu.RLock()
	defer s.roster.mu.RUnlock()
	t := s.roster.targets[uid]
	if t == nil {
		return o, pool != nil
	}
	for _, m := range t.members {
		o.Pools = append(o.Pools, m.observation(t.kind))
		o.ServerVersion = cmp.Or(m.pool.ServerVersion(), o.ServerVersion)
		o.Warning = cmp.Or(m.pool.Warning(), o.Warning)
	}
	return o, true
}

// Snapshot returns what is true of every target, in no particular order. Members
// that have left a pool that still has targets are in it as Departed, without a
// Target once they are closed, so that the sums over a pool's counters never go down.
func (s *Set) Snapshot() (all []PoolObservation) {
	s.roster.mu.RLock()
	defer s.roster.mu.RUnlock()
	for _, t := range s.roster.targets {
		for _, m := range t.members {
			all = append(all, m.observation(t.kind))
		}
	}
	for m, kind := range s.roster.leaving {
		if s.roster.pools[m.owner.UID] != nil {
			o := m.observation(kind)
			o.Departed = true
			all = append(all, o)
		}
	}
	for key, o := range s.roster.departed {
		if s.roster.pools[key.pool] != nil {
			all = append(all, o)
		}
	}
	return all
}

// Connections returns the connections to the targets of a namespace, or to all
// when it is empty, in no particular order. Those that are being closed are not
// in it, nor those that drain because their target has left the pool.
func (s *Set) Connections(namespace string) (all []Connection) {
	s.roster.mu.RLock()
	defer s.roster.mu.RUnlock()
	for _, t := range s.roster.targets {
		if namespace != "" && t.Namespace != namespace {
			continue
		}
		for _, m := range t.members {
			all = m.appendConnections(all, t.kind)
		}
	}
	return all
}

// Recycle retires one connection of a pool to a target, both given by UID: it
// serves until its successor is warm and is then drained. It reports whether the
// pool serves with such a connection.
func (s *Set) Recycle(pool, target string, id uint64) bool {
	m := s.roster.member(pool, target)
	return m != nil && m.pool.Recycle(id)
}

// RecyclePool retires every connection of a pool, given by UID, that is not
// retiring yet, and returns how many these are. With them go the connections by which
// its targets are jump hosts of others, and those to the jump hosts on the way to them:
// no other request reaches those.
func (s *Set) RecyclePool(pool string) (retired int) {
	for _, m := range s.roster.members(pool) {
		retired += m.pool.RecycleAll()
	}
	return retired + s.network.RecycleJumpHosts(s.roster.jumpHosts(pool))
}

// Check dials a target once, as it was ensured last, and reports stage by stage.
// It goes beside the pools, also while they are parked or paused, but obeys the
// address policy and the dial budget, and closes what it made. Success lets the
// target's pools, and those behind it if it is a jump host, dial at once; failure
// changes nothing for them. Credentials that cannot be used are reported and nothing is
// dialed, although connections made with earlier ones may serve.
//
// One check of a target runs at a time, so that a wrong key is offered once: callers
// who ask meanwhile, or within 5 s after the credentials were refused and the access
// has not changed since, get its result. It runs to its end, within 30 s, even if no
// caller waits any more. The error is ErrUnknownTarget if no pool or target behind it
// uses a target of that UID, or that of ctx.
func (s *Set) Check(ctx context.Context, target string) (Check, error) {
	if refused := s.checks.applier.refusalOf(target); refused != nil {
		return Check{Stages: []CheckStage{{Stage: driver.StagePrepare, Err: driver.AsError(refused)}}}, nil
	}
	c := s.checks.start(target)
	if c == nil {
		return Check{}, ErrUnknownTarget
	}
	select {
	case <-c.done:
		return c.result, nil
	case <-ctx.Done():
		return Check{}, context.Cause(ctx)
	}
}

// Close drains everything until ctx ends, then cuts it, and returns when all is
// closed.
func (s *Set) Close(ctx context.Context) {
	defer s.background.Cut()
	defer context.AfterFunc(ctx, s.background.Cut)()
	pools := s.roster.close()
	s.background.Shut()
	s.checks.background.Shut()
	s.checks.background.Cut()
	reach.DrainAll(ctx, pools)
	s.checks.background.Wait()
	s.background.Wait()
	s.network.Close(ctx) // after what runs over the jump hosts
}
