// Package poolset holds all live pools of this process, keyed by object UID.
//
// It is the one place where what is declared and what is requested meet.
// Controllers pour desired targets in (Ensure, Remove) and read snapshots out
// (Observe, Snapshot); whoever runs something takes a lease (Acquire, Exec).
// Neither side knows the other. No method dials or waits for a remote, except
// Acquire and Exec on behalf of their callers, and Close.
//
// Each pair of pool and target is one connpool.Pool. What the pairs of a target
// share is proven once: a gate lets a single dial try new credentials or a
// failed host, and everybody learns from it. Connections to jump hosts are
// pooled too, and shared by all targets behind them.
package poolset

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// removalGrace bounds how long what runs may go on after its target, its pool
// or its Secret was deleted: whoever took the right away means it (FAULTS F32).
const removalGrace = 30 * time.Second

// Set is all live pools of a process. Its methods are safe for concurrent use;
// Ensure and Remove for one target must not run at the same time.
type Set struct {
	egress driver.DialFunc
	budget *connpool.Budget
	notify atomic.Pointer[func(Ref)]

	// mu guards the maps and their elements' fields, not what is inside the
	// pools, which guard themselves. Nothing waits under it.
	mu      sync.RWMutex
	closed  bool
	targets map[string]*target            // by target UID
	pools   map[string]map[string]*member // by pool UID, then target UID
	hops    map[string]*hop               // by target UID

	drains sync.WaitGroup
}

// target is what is applied of a Target.
type target struct {
	Ref
	kind    string
	edition *edition
	members map[string]*member // by pool UID
}

// New makes an empty set. Transports are opened by egress, within the budget.
func New(egress driver.DialFunc, budget *connpool.Budget) *Set {
	return &Set{
		egress:  egress,
		budget:  budget,
		targets: map[string]*target{},
		pools:   map[string]map[string]*member{},
		hops:    map[string]*hop{},
	}
}

// Subscribe names who is told which target has changed: a connection gained or
// lost, a dial or a health verdict. The function must not block; it replaces the
// one of an earlier call.
func (s *Set) Subscribe(notify func(Ref)) { s.notify.Store(&notify) }

func (s *Set) changed(ref Ref) {
	if notify := s.notify.Load(); notify != nil {
		(*notify)(ref)
	}
}

// Ensure makes the pools of a target as wanted and returns at once; connections
// follow in the background. An *driver.Error says that the endpoint cannot be
// used as given; connections made earlier for the same endpoint then keep
// serving, under the new policies.
func (s *Set) Ensure(want Target) error {
	s.mu.RLock()
	have := s.targets[want.UID]
	s.mu.RUnlock()

	next, err := s.prepare(want, have)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if have == nil {
		if err != nil || len(want.Pools) == 0 {
			return err
		}
		have = &target{members: map[string]*member{}}
		s.targets[want.UID] = have
	}
	have.Ref, have.kind = want.Ref, want.Type
	if err != nil && have.edition.identity != want.Identity {
		s.remove(want.UID)
		return err
	}
	s.retireMembers(have, want.Pools)
	s.updateMembers(have, want, next)
	s.sweepHops()
	if len(have.members) == 0 {
		delete(s.targets, want.UID)
	}
	return err
}

// prepare returns the edition by which the target is to be reached: the one in
// use if nothing changed.
func (s *Set) prepare(want Target, have *target) (*edition, error) {
	if have != nil && have.edition.is(want.Access) {
		return have.edition, nil
	}
	next := &edition{identity: want.Identity, version: want.Version, access: want.Access, gate: &gate{}}
	for _, pool := range want.Pools {
		if _, err := next.dialer(s, pool.Policy); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// retireMembers drains the pools that want the target no longer.
func (s *Set) retireMembers(have *target, pools []Pool) {
	wanted := map[string]bool{}
	for _, pool := range pools {
		wanted[pool.UID] = true
	}
	for uid, m := range have.members {
		if !wanted[uid] {
			s.retire(have, m)
		}
	}
}

// updateMembers applies the policies and the edition; a nil edition keeps the
// old one and adds no pool.
func (s *Set) updateMembers(have *target, want Target, next *edition) {
	previous := have.edition
	if next != nil {
		have.edition = next
	}
	for _, pool := range want.Pools {
		m := have.members[pool.UID]
		switch {
		case m != nil && next != nil && (next != previous || m.keepaliveDiffers(pool.Policy)):
			m.reach(next, pool.Policy, previous.identity != next.identity)
		case m == nil && next != nil:
			m = s.newMember(want.Ref, pool, next)
			have.members[pool.UID] = m
			if s.pools[pool.UID] == nil {
				s.pools[pool.UID] = map[string]*member{}
			}
			s.pools[pool.UID][want.UID] = m
		}
		if m != nil {
			m.apply(pool.Policy)
		}
	}
}

// Remove forgets a target. What runs on it may finish within a short grace; new
// requests do not find it any more.
func (s *Set) Remove(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(uid)
}

func (s *Set) remove(uid string) {
	have := s.targets[uid]
	if have == nil {
		return
	}
	for _, m := range have.members {
		s.retire(have, m)
	}
	delete(s.targets, uid)
	s.sweepHops()
}

// retire takes a member out of the maps and drains it in the background.
func (s *Set) retire(have *target, m *member) {
	delete(have.members, m.owner.UID)
	targets := s.pools[m.owner.UID]
	delete(targets, have.UID)
	if len(targets) == 0 {
		delete(s.pools, m.owner.UID)
	}
	s.drain(m.pool, min(m.policy.DrainTimeout, removalGrace))
}

func (s *Set) drain(pool *connpool.Pool[driver.Conn], patience time.Duration) {
	s.drains.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// What is cut at the end of its patience is no news to anybody.
		_ = pool.Drain(ctx)
	})
}

// Close drains everything until ctx ends, then cuts it, and returns when all is
// closed.
func (s *Set) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	var members, hops []*connpool.Pool[driver.Conn]
	for _, t := range s.targets {
		for _, m := range t.members {
			members = append(members, m.pool)
		}
	}
	for _, h := range s.hops {
		hops = append(hops, h.pool)
	}
	clear(s.targets)
	clear(s.pools)
	clear(s.hops)
	s.mu.Unlock()

	drainAll(ctx, members)
	drainAll(ctx, hops) // after what runs over them
	s.drains.Wait()
}

func drainAll(ctx context.Context, pools []*connpool.Pool[driver.Conn]) {
	var all sync.WaitGroup
	for _, pool := range pools {
		all.Go(func() { _ = pool.Drain(ctx) })
	}
	all.Wait()
}
