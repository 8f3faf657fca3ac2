package poolset

import (
	"sync"

	"github.com/connpool/connpool/internal/reach"
)

// target is what is applied of a Target.
type target struct {
	Ref
	kind     string
	version  *reach.Version // nil while the target is new
	jumpHost *JumpHost
	members  map[string]*member // by pool UID
}

// reaches reports whether the pool's connections are made by the version and obey
// its policy's keepalive.
func (t *target) reaches(pool Pool, version *reach.Version) bool {
	if t == nil {
		return false
	}
	m := t.members[pool.UID]
	return m != nil && m.pool.Dialer().Is(version, pool.keepalive())
}

// retry lets the target be dialed at once.
func (t *target) retry() {
	if t.version != nil {
		t.version.Forgive()
	}
	for _, m := range t.members {
		m.pool.Retry()
	}
}

// roster is all members, by target and by pool.
type roster struct {
	// mu guards the maps and their elements' fields, not what is inside the pools
	// and members, which guard themselves and may be called under it. It is held for
	// microseconds: no caller waits or prepares an access under it.
	mu       sync.RWMutex
	closed   bool
	targets  map[string]*target            // by target UID
	pools    map[string]map[string]*member // by pool UID, then target UID
	departed departed
}

func newRoster() *roster {
	return &roster{
		targets:  map[string]*target{},
		pools:    map[string]map[string]*member{},
		departed: newDeparted(),
	}
}

// add enters a member. The caller holds mu.
func (r *roster) add(t *target, m *member) {
	t.members[m.owner.UID] = m
	if r.pools[m.owner.UID] == nil {
		r.pools[m.owner.UID] = map[string]*member{}
	}
	r.pools[m.owner.UID][t.UID] = m
}

// take removes a member, which is to be drained. The caller holds mu.
func (r *roster) take(t *target, m *member) {
	delete(t.members, m.owner.UID)
	targets := r.pools[m.owner.UID]
	delete(targets, t.UID)
	if len(targets) == 0 {
		delete(r.pools, m.owner.UID)
	}
	r.departed.leaving[m] = t.kind
}

// drained takes note that a member that was removed is closed.
func (r *roster) drained(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.departed.closed(m)
	r.departed.forget(r.pools)
}

// close empties the roster for good, and returns the pools that were in it.
func (r *roster) close() (pools []*reach.Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, t := range r.targets {
		for _, m := range t.members {
			pools = append(pools, m.pool)
		}
	}
	clear(r.targets)
	clear(r.pools)
	return pools
}

// members returns the members of a pool.
func (r *roster) members(pool string) (members []*member) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, m := range r.pools[pool] {
		members = append(members, m)
	}
	return members
}

// member returns a pool's member for a target; nil if there is none.
func (r *roster) member(pool, target string) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pools[pool][target]
}

// observe adds what is true of a target to an observation, and reports whether the
// roster has it.
func (r *roster) observe(uid string, o *Observation) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.targets[uid]
	if t == nil {
		return false
	}
	for _, m := range t.members {
		o.Pools = append(o.Pools, m.observation(t.kind))
		if version := m.pool.ServerVersion(); version != "" {
			o.ServerVersion = version
		}
	}
	return true
}

// snapshot returns what is true of every member, those included that departed.
func (r *roster) snapshot() (all []PoolObservation) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range r.targets {
		for _, m := range t.members {
			all = append(all, m.observation(t.kind))
		}
	}
	return r.departed.appendObservations(all, r.pools)
}

// connections returns the connections to the targets of a namespace; of all when it
// is empty.
func (r *roster) connections(namespace string) (all []Connection) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range r.targets {
		if namespace != "" && t.Namespace != namespace {
			continue
		}
		for _, m := range t.members {
			all = m.appendConnections(all, t.kind)
		}
	}
	return all
}
