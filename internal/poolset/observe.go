package poolset

import (
	"maps"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// Observation is what is true of a target now.
type Observation struct {
	// ServerVersion is what the server calls itself; empty before the first
	// connection.
	ServerVersion string
	// Pools in the order of their names are left to the caller.
	Pools []PoolObservation
	// Hop is the connections by which the target is the jump host of others. No
	// pool owns them. Nil if it is none, or nobody behind it may be dialed.
	Hop *PoolObservation
}

// PoolObservation is one pool's share of a target.
type PoolObservation struct {
	Pool, Target Ref
	// Type is the target's protocol.
	Type string
	// MinWarm is how many connections the pool keeps.
	MinWarm int
	// Paused reports that the pool hands out nothing.
	Paused bool
	// Stats are the engine's.
	connpool.Stats
	// Health says whether the target can be dialed and serves.
	Health HealthState
	// Err is why Health is Down; nil when it is not.
	Err *driver.Error
	// Refused is why new credentials could not be proven while the old ones
	// serve; nil when there are none, or not yet a verdict.
	Refused *driver.Error
	// DialFailures counts failed dials by reason; nil when there were none. A
	// verdict that was heard from another pool's dial is not counted.
	DialFailures map[driver.Reason]uint64
	// Rotating reports that new credentials are being proven.
	Rotating bool
	// Left reports that the target is no longer the pool's, so that its health
	// means nothing. Only Snapshot returns it.
	Left bool
}

// Observe returns what is true of a target, and false if the set has none of
// that UID, not even as a jump host.
func (s *Set) Observe(uid string) (Observation, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var o Observation
	t, h := s.targets[uid], s.hops[uid]
	if h != nil {
		o.Hop, o.ServerVersion = h.observation()
	}
	if t != nil {
		t.observe(&o)
	}
	return o, t != nil || h != nil
}

func (t *target) observe(o *Observation) {
	for _, m := range t.members {
		pool, version := m.observation(t.kind)
		o.Pools = append(o.Pools, pool)
		if version != "" {
			o.ServerVersion = version
		}
	}
}

// observation of a jump host: its newest dial says all that is known of it.
func (h *hop) observation() (o *PoolObservation, version string) {
	stats := h.pool.Stats()
	o = &PoolObservation{Target: h.Ref, Stats: stats, Rotating: stats.Rotation.Pending}
	switch {
	case stats.Dial.Failures > 0:
		o.Health, o.Err = HealthDown, driver.AsError(stats.Dial.Err)
	case stats.Dials.Succeeded > 0:
		o.Health = HealthUp
	}
	o.Refused = refused(stats)
	version, _ = h.version.Load().(string)
	return o, version
}

// refused is why new credentials could not be proven; nil without a verdict.
func refused(stats connpool.Stats) *driver.Error {
	if !stats.Rotation.Pending || stats.Rotation.Err == nil {
		return nil
	}
	return driver.AsError(stats.Rotation.Err)
}

// Snapshot returns what is true of every target, in no particular order. What
// has left a pool that still lives is in it as Left, without a Target when it is
// closed, so that the sums over a pool's counters never go down.
func (s *Set) Snapshot() []PoolObservation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []PoolObservation
	for _, t := range s.targets {
		for _, m := range t.members {
			pool, _ := m.observation(t.kind)
			all = append(all, pool)
		}
	}
	return s.past.appendTo(all, s.pools)
}

func (m *member) observation(kind string) (o PoolObservation, version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.pool.Stats()
	stats.Dials.Time = m.handshakes
	verdict := m.verdict()
	o = PoolObservation{
		Pool: m.owner, Target: m.target, Type: kind, MinWarm: m.limits().MinWarm, Paused: m.policy.Paused,
		Stats: stats, Health: verdict.state, Rotating: stats.Rotation.Pending,
		Refused: refused(stats), DialFailures: maps.Clone(m.refusals),
	}
	if verdict.state == HealthDown {
		o.Err = verdict.err
	}
	return o, m.version
}

// Age is how long the oldest serving connection has lived; 0 when there is none.
func (o PoolObservation) Age(now time.Time) time.Duration {
	if o.Oldest.IsZero() {
		return 0
	}
	return now.Sub(o.Oldest)
}
