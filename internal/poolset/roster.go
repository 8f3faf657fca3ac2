package poolset

import (
	"maps"
	"slices"
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

// retry lets the target be dialed at once.
func (t *target) retry() {
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
		departed: departed{leaving: map[*member]string{}, totals: map[departedKey]PoolObservation{}},
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
	// A pool's totals are forgotten with its last target.
	maps.DeleteFunc(r.departed.totals, func(key departedKey, _ PoolObservation) bool { return r.pools[key.pool] == nil })
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
func (r *roster) members(pool string) []*member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Values(r.pools[pool]))
}

// member returns a pool's member for a target; nil if there is none.
func (r *roster) member(pool, target string) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pools[pool][target]
}

// departed is what the targets that have left a pool counted while they were in it,
// so that the sums over a pool's counters never go down. It lasts as long as the
// pool has a target.
type departed struct {
	// leaving are the members that still drain, with their protocol.
	leaving map[*member]string
	// totals are the counters of the members that are closed.
	totals map[departedKey]PoolObservation
}

type departedKey struct{ pool, kind string }

// closed moves the counters of a member that has closed into the totals.
func (d departed) closed(m *member) {
	kind := d.leaving[m]
	delete(d.leaving, m)
	key := departedKey{m.owner.UID, kind}
	d.totals[key] = d.totals[key].plus(m.observation(kind))
}

// appendObservations adds what has departed from the pools that have a target.
func (d departed) appendObservations(all []PoolObservation, pools map[string]map[string]*member) []PoolObservation {
	for m, kind := range d.leaving {
		if pools[m.owner.UID] != nil {
			o := m.observation(kind)
			o.Departed = true
			all = append(all, o)
		}
	}
	for key, o := range d.totals {
		if pools[key.pool] != nil {
			all = append(all, o)
		}
	}
	return all
}
