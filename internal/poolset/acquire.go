package poolset

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach"
)

// Errors of Acquire, ExecOn and Check that say what a request got wrong. Those of
// connpool.Pool.Acquire come through as they are.
var (
	// ErrUnknownPool means that the pool does not exist, or has no target that can
	// be used: the set knows pools by their targets only.
	ErrUnknownPool = errors.New("poolset: no such pool")
	// ErrUnknownTarget means that the pool does not have the target, or that the
	// target cannot be used: the set does not keep what is not usable.
	ErrUnknownTarget = errors.New("poolset: the pool has no such target")
)

// Request says which connection is wanted.
type Request struct {
	// Pool is the UID of the pool.
	Pool string
	// Target is the UID of the target. When empty, the least loaded target that
	// serves is used; whether a pool allows that is for the caller to know.
	Target string
}

// Lease is the right to use one connection until Release, Discard or Narrow.
type Lease struct {
	*connpool.Lease[*reach.Conn]
	Target Ref

	pool *reach.Pool
}

// ID is the ID of the leased connection, unique in its pool's share of the
// target, as in Connection.
func (l Lease) ID() uint64 { return l.Lease.ID() }

// Conn returns the leased connection.
func (l Lease) Conn() driver.Conn { return l.Lease.Conn().Conn }

// acquire leases a connection, waiting for one as the pool's policy says.
func (r *roster) acquire(ctx context.Context, request Request) (Lease, error) {
	m, err := r.route(request)
	if err != nil {
		return Lease{}, err
	}
	lease, err := m.pool.Acquire(ctx)
	if err != nil {
		return Lease{}, err
	}
	return Lease{Lease: lease, Target: m.target, pool: m.pool}, nil
}

// route finds the member that serves the request.
func (r *roster) route(request Request) (*member, error) {
	if request.Target != "" {
		return r.routeToTarget(request)
	}
	members := r.members(request.Pool)
	if len(members) == 0 {
		return nil, ErrUnknownPool
	}
	candidates := make([]candidate, 0, len(members))
	for _, m := range members {
		candidates = append(candidates, candidateOf(m))
	}
	return slices.MinFunc(candidates, candidate.compare).member, nil
}

func (r *roster) routeToTarget(request Request) (*member, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	members := r.pools[request.Pool]
	if len(members) == 0 {
		return nil, ErrUnknownPool
	}
	m := members[request.Target]
	if m == nil {
		return nil, ErrUnknownTarget
	}
	return m, nil
}

// candidate is what routing knows of a member.
type candidate struct {
	member *member
	down   bool
	load   int
}

func candidateOf(m *member) candidate {
	stats := m.pool.Stats()
	m.mu.Lock()
	defer m.mu.Unlock()
	return candidate{
		member: m,
		down:   m.overall().state == HealthDown || stats.Warm() == 0,
		load:   stats.Leases + stats.Pending,
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
