package poolset

import (
	"cmp"
	"errors"
	"slices"
)

// Errors of Acquire, ExecOn and Check that say what a request got wrong. Those of
// connpool.Pool.Acquire come through as they are.
var (
	// ErrUnknownPool means that the pool does not exist, or has no target that can
	// be used: the set knows pools by their targets only.
	ErrUnknownPool = errors.New("poolset: no such pool")
	// ErrUnknownTarget means that the pool does not have the target, or that it cannot
	// be used.
	ErrUnknownTarget = errors.New("poolset: the pool has no such target")
)

// Request says which connection is wanted.
type Request struct {
	// Pool is the UID of the pool.
	Pool string
	// Target is the UID of the target. When empty, the least loaded target that
	// serves is used, and of several the one that was chosen least recently; whether a
	// pool allows that is for the caller to know.
	Target string
	// User tells those who wait for a connection apart: they get theirs in turn.
	User string
}

// route finds the member that serves the request.
func (r *roster) route(request Request) (*member, error) {
	if m := r.member(request.Pool, request.Target); m != nil {
		m.chosen.Store(r.choices.Add(1))
		return m, nil
	}
	members := r.members(request.Pool)
	switch {
	case len(members) == 0:
		return nil, ErrUnknownPool
	case request.Target != "":
		return nil, ErrUnknownTarget
	}
	candidates := make([]candidate, len(members))
	for {
		for i, m := range members {
			candidates[i] = candidateOf(m)
		}
		best := slices.MinFunc(candidates, candidate.compare)
		// If another request has chosen it in between, look again: two that come together
		// must not both take it for the one that has waited for longest.
		if best.member.chosen.CompareAndSwap(best.chosen, r.choices.Add(1)) {
			return best.member, nil
		}
	}
}

// candidate is what routing knows of a member. Those that serve have rank 0, the
// others 1.
type candidate struct {
	member     *member
	rank, load int
	chosen     uint64
}

func candidateOf(m *member) candidate {
	chosen, stats := m.chosen.Load(), m.pool.Stats()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := candidate{member: m, load: stats.Leases + stats.Pending, chosen: chosen}
	if m.overall().state == HealthDown || stats.Warm() == 0 {
		c.rank = 1
	}
	return c
}

// compare puts those that serve first, then the least loaded, then the least recently
// chosen, then by name.
func (c candidate) compare(other candidate) int {
	return cmp.Or(cmp.Compare(c.rank, other.rank), cmp.Compare(c.load, other.load),
		cmp.Compare(c.chosen, other.chosen), cmp.Compare(c.member.target.Name, other.member.target.Name))
}
