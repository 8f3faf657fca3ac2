package poolset

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// Errors of Acquire, Exec and Check that say what a request got wrong. Those of
// connpool.Pool.Acquire come through as they are.
var (
	// ErrUnknownPool says that the pool does not exist, or has no target that can
	// be used: the set knows pools by their targets only.
	ErrUnknownPool = errors.New("poolset: no such pool")
	// ErrUnknownTarget says that the pool does not have the target, or that the
	// target cannot be used: the set does not keep what is not usable.
	ErrUnknownTarget = errors.New("poolset: the pool has no such target")
	// ErrTargetRequired says that the pool may have several targets and the
	// request names none.
	ErrTargetRequired = errors.New("poolset: the request must name a target of the pool")
)

// Request says which connection is wanted.
type Request struct {
	// Pool is the UID of the pool.
	Pool string
	// Target is the UID of the target; it may be empty if the pool's policy says
	// Single or AnyTarget.
	Target string
}

// Lease is the right to use one connection until Release, Discard or Narrow.
type Lease struct {
	*connpool.Lease[*conn]
	Target Ref
}

// ID is the ID of the leased connection, unique in its pool's share of the
// target, as in Connection.
func (l Lease) ID() uint64 { return l.Lease.ID() }

// Conn returns the leased connection.
func (l Lease) Conn() driver.Conn { return l.Lease.Conn().Conn }

// Acquire leases a connection, waiting for one as the pool's policy says.
func (s *Set) Acquire(ctx context.Context, request Request) (Lease, error) {
	m, err := s.route(request)
	if err != nil {
		return Lease{}, err
	}
	lease, err := m.pool.Acquire(ctx)
	if err != nil {
		return Lease{}, err
	}
	return Lease{Lease: lease, Target: m.target}, nil
}

// route finds the member that serves the request.
func (s *Set) route(request Request) (*member, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	members := s.pools[request.Pool]
	switch {
	case len(members) == 0:
		return nil, ErrUnknownPool
	case request.Target != "":
		if m := members[request.Target]; m != nil {
			return m, nil
		}
		return nil, ErrUnknownTarget
	}
	candidates := make([]candidate, 0, len(members))
	for _, m := range members {
		candidates = append(candidates, m.candidate())
	}
	if !candidates[0].unnamed {
		return nil, ErrTargetRequired
	}
	return slices.MinFunc(candidates, candidate.compare).member, nil
}

// candidate is what routing knows of a member.
type candidate struct {
	member *member
	// unnamed reports that the policy lets a request name no target.
	unnamed bool
	down    bool
	load    int
}

func (m *member) candidate() candidate {
	stats := m.pool.Stats()
	m.mu.Lock()
	defer m.mu.Unlock()
	return candidate{
		member:  m,
		unnamed: m.policy.AnyTarget || m.policy.Single,
		down:    m.verdict().state == HealthDown || stats.Warm() == 0,
		load:    stats.Leases + stats.Pending,
	}
}

// compare puts those that serve first, then the least loaded, then by name.
func (c candidate) compare(other candidate) int {
	if c.down != other.down {
		if c.down {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(c.load, other.load), cmp.Compare(c.member.target.Name, other.member.target.Name))
}
