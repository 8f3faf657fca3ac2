// Package poolset holds all live pools of this process, keyed by object UID.
//
// It is the one place where what is declared and what is requested meet.
// Controllers pour desired targets in (Ensure, Remove) and read snapshots out
// (Observe, Snapshot, Connections); whoever runs something takes a lease
// (Acquire, ExecOn, or Exec for both). Neither side knows the other. No method
// dials or waits for a remote, except Acquire, Exec, ExecOn and Check on behalf
// of their callers, and Close.
//
// Each pair of pool and target is one connpool.Pool. What the pairs of a target
// share is proven once: a gate lets a single dial try new credentials or a
// failed host, and everybody learns from it. Connections to jump hosts are
// pooled too, and shared by all targets behind them.
//
// Check goes beside all of this: it dials a target once and tells stage by stage
// what it finds, also while the pools are parked or paused.
//
// Trade-offs: one lock for the maps, held for microseconds, instead of one for
// each target; a request that names no target looks at every target of its pool.
// A jump host is described by whichever target behind it was ensured last, which
// is right as long as all of them read the same objects.
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
// or its Secret was deleted: whoever took the right away means it.
const removalGrace = 30 * time.Second

// Set is all live pools of a process. Its methods are safe for concurrent use;
// Ensure and Remove for one target must not run at the same time.
type Set struct {
	egress driver.DialFunc
	budget *connpool.Budget
	notify atomic.Pointer[func(Ref)]
	pauses pauses

	// mu guards the maps and their elements' fields, not what is inside the
	// pools and members, which guard themselves and may be called under it.
	// Nothing waits under it, and no endpoint is prepared, which may cost as
	// much as the decryption of a key.
	mu      sync.RWMutex
	closed  bool
	targets map[string]*target            // by target UID
	pools   map[string]map[string]*member // by pool UID, then target UID
	hops    map[string]*hop               // by target UID
	checks  map[string]*check             // those that run or still hold, by target UID
	past    past

	// drains run until what they drain is closed, and other work beside the pools
	// until it is done; cut ends their patience.
	drains sync.WaitGroup
	ctx    context.Context //nolint:containedctx // the life of the set
	cut    context.CancelFunc
}

// target is what is applied of a Target.
type target struct {
	Ref
	kind    string
	edition *edition
	via     *Hop
	members map[string]*member // by pool UID
}

// New makes an empty set. Transports are opened by egress, within the budget.
func New(egress driver.DialFunc, budget *connpool.Budget) *Set {
	s := &Set{
		egress:  egress,
		budget:  budget,
		targets: map[string]*target{},
		pools:   map[string]map[string]*member{},
		hops:    map[string]*hop{},
		checks:  map[string]*check{},
		past:    newPast(),
	}
	s.ctx, s.cut = context.WithCancel(context.Background())
	return s
}

// Subscribe names who is told which target has changed: a connection gained or
// lost, a dial or a health verdict; not a lease. The function must neither block
// nor call the set; it replaces the one of an earlier call.
func (s *Set) Subscribe(notify func(Ref)) { s.notify.Store(&notify) }

func (s *Set) changed(ref Ref) {
	if notify := s.notify.Load(); notify != nil {
		(*notify)(ref)
	}
}

// Ensure makes the pools of a target as wanted and returns at once; connections
// follow in the background. An *driver.Error says that the endpoint cannot be
// used as given; connections made earlier for the same endpoint then keep
// serving, under the new policies, unless it is the changed pins that are wrong.
func (s *Set) Ensure(want Target) error {
	s.recognize(&want)
	p, err := s.prepare(want)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	have := s.targets[want.UID]
	switch {
	case have == nil && (err != nil || len(want.Pools) == 0):
		return err
	case have == nil:
		have = &target{members: map[string]*member{}}
		s.targets[want.UID] = have
	case err != nil && have.edition.mayNotServe(want.Access, err):
		s.remove(want.UID)
		return err
	}
	have.Ref, have.kind, have.via = want.Ref, want.Type, want.Via
	s.retireMembers(have, want.Pools)
	s.ensureHops(want.Via)
	s.updateMembers(have, want.Pools, p)
	if len(have.members) == 0 {
		delete(s.targets, want.UID)
	}
	s.sweepHops()
	return err
}

// recognize takes a target that does not say which host or account it means for
// the one that it was.
func (s *Set) recognize(want *Target) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if have := s.targets[want.UID]; want.Identity == "" && have != nil && have.kind == want.Type {
		want.Identity = have.edition.identity
	}
}

// plan is what Ensure prepares before it takes the lock.
type plan struct {
	// edition by which the target is to be reached: the one in use if nothing
	// changed, nil if the endpoint cannot be used.
	edition *edition
	// dials of the pools that have to dial in another way than now, by UID.
	dials map[string]dialFunc
}

func (s *Set) prepare(want Target) (plan, error) {
	s.mu.RLock()
	have, next := s.targets[want.UID], s.editionOf(want.UID, want.Access)
	s.mu.RUnlock()

	dials := map[string]dialFunc{}
	for _, pool := range want.Pools {
		if have.reaches(pool, next) {
			continue
		}
		dial, err := next.dialer(s, pool.Policy)
		if err != nil {
			return plan{}, err
		}
		dials[pool.UID] = dial
	}
	return plan{edition: next, dials: dials}, nil
}

// editionOf returns the edition that the access describes, so that a target and
// the jump host that it is for others learn from one another. The caller holds
// mu.
func (s *Set) editionOf(uid string, access Access) *edition {
	if t := s.targets[uid]; t != nil && t.edition.is(access) {
		return t.edition
	}
	if h := s.hops[uid]; h != nil && h.edition.is(access) {
		return h.edition
	}
	return &edition{
		identity: access.Identity, version: access.Version, trust: access.Trust,
		access: access, gate: &gate{},
	}
}

// reaches reports whether the pool has connections of the edition that obey its
// policy. Only Ensure and Remove change what it reads.
func (t *target) reaches(pool Pool, e *edition) bool {
	if t == nil || t.edition != e {
		return false
	}
	m := t.members[pool.UID]
	return m != nil && !m.keepaliveDiffers(pool.Policy)
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

// updateMembers applies the policies and the edition; without an edition it
// keeps the old one and adds no pool.
func (s *Set) updateMembers(have *target, pools []Pool, p plan) {
	previous := have.edition
	if p.edition != nil {
		have.edition = p.edition
	}
	for _, pool := range pools {
		m, dial := have.members[pool.UID], p.dials[pool.UID]
		switch {
		case m == nil && dial != nil:
			m = s.addMember(have, pool, dial)
		case dial != nil:
			m.reach(have.edition, dial, previous.identity != have.edition.identity)
		}
		if m != nil {
			m.apply(pool.Policy)
		}
	}
}

func (s *Set) addMember(have *target, pool Pool, dial dialFunc) *member {
	m := s.newMember(have.Ref, pool, have.edition, dial)
	have.members[pool.UID] = m
	if s.pools[pool.UID] == nil {
		s.pools[pool.UID] = map[string]*member{}
	}
	s.pools[pool.UID][have.UID] = m
	return m
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
	s.past.leaving[m] = have.kind
	s.drain(m.pool, min(m.policy.DrainTimeout, removalGrace), func() { s.left(m) })
}

// drainable is what can be drained.
type drainable interface {
	Drain(ctx context.Context) error
}

// drain drains in the background and calls then when all is closed.
func (s *Set) drain(pool drainable, patience time.Duration, then func()) {
	s.drains.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		// What is cut at the end of its patience is no news to anybody.
		_ = pool.Drain(ctx)
		then()
	})
}

// Close drains everything until ctx ends, then cuts it, and returns when all is
// closed.
func (s *Set) Close(ctx context.Context) {
	defer s.cut()
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	members, hops := s.shut()
	drainAll(ctx, members)
	s.drains.Wait()
	drainAll(ctx, hops) // after what runs over them
}

// shut empties the set and returns what was in it.
func (s *Set) shut() (members, hops []drainable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.checks {
		c.cancel()
	}
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
	return members, hops
}

func drainAll(ctx context.Context, pools []drainable) {
	var all sync.WaitGroup
	for _, pool := range pools {
		all.Go(func() { _ = pool.Drain(ctx) })
	}
	all.Wait()
}
