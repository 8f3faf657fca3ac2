package poolset

import (
	"maps"
	"slices"
	"sync"

	"github.com/connpool/connpool/internal/poolset/routing"
	"github.com/connpool/connpool/internal/reach"
)

// target is what is applied of a Target.
type target struct {
	Ref
	kind     string
	version  *reach.Version // nil while the target is new
	refused  error          // why the access that is wanted now cannot be used, so that version stays
	jumpHost *JumpHost
	members  []*member // few: one for each pool, in no order
}

// member returns that of a pool; nil if there is none.
func (t *target) member(pool string) *member {
	for _, m := range t.members {
		if m.owner.UID == pool {
			return m
		}
	}
	return nil
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
	mu      sync.RWMutex
	closed  bool
	targets map[string]*target                 // by target UID
	pools   map[string]map[string]*member      // by pool UID, then target UID
	turns   map[string]*routing.Table[*member] // by pool UID
	// leaving are the removed members that still drain, with their protocol. departed
	// is what those counted that are closed, so that the sums over a pool's counters
	// never go down. It lasts as long as the pool has a target.
	leaving  map[*member]string
	departed map[departedKey]PoolObservation
}

type departedKey struct{ pool, kind string }

// table returns the table in which a pool's members have their turns. The caller holds
// mu, and adds a member if it is new.
func (r *roster) table(pool string) *routing.Table[*member] {
	if r.turns[pool] == nil {
		r.turns[pool] = new(routing.Table[*member])
	}
	return r.turns[pool]
}

// add enters a member. The caller holds mu.
func (r *roster) add(t *target, m *member) {
	t.members = append(t.members, m)
	if r.pools[m.owner.UID] == nil {
		r.pools[m.owner.UID] = map[string]*member{}
	}
	r.pools[m.owner.UID][t.UID] = m
	r.table(m.owner.UID).Add(m.turn)
}

// take removes a member, which is to be drained. The caller holds mu.
func (r *roster) take(t *target, m *member) {
	// A copy, because callers remove members while they go through them.
	t.members = slices.DeleteFunc(slices.Clone(t.members), func(other *member) bool { return other == m })
	targets := r.pools[m.owner.UID]
	delete(targets, t.UID)
	r.table(m.owner.UID).Remove(m.turn)
	if len(targets) == 0 {
		delete(r.pools, m.owner.UID)
		delete(r.turns, m.owner.UID)
	}
	r.leaving[m] = t.kind
}

// drained takes note that a member that was removed is closed.
func (r *roster) drained(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := departedKey{m.owner.UID, r.leaving[m]}
	delete(r.leaving, m)
	r.departed[key] = r.departed[key].plus(m.observation(key.kind))
	maps.DeleteFunc(r.departed, func(of departedKey, _ PoolObservation) bool { return r.pools[of.pool] == nil })
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
	clear(r.turns)
	return pools
}

// members returns the members of a pool.
func (r *roster) members(pool string) []*member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Values(r.pools[pool]))
}

// jumpHosts returns the UIDs of a pool's targets and of all jump hosts on the way to
// them.
func (r *roster) jumpHosts(pool string) map[string]bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	uids := map[string]bool{}
	for uid := range r.pools[pool] {
		uids[uid] = true
		for h := r.targets[uid].jumpHost; h != nil; h = h.JumpHost {
			uids[h.UID] = true
		}
	}
	return uids
}

// member returns a pool's member for a target; nil if there is none.
func (r *roster) member(pool, target string) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pools[pool][target]
}
