package poolset

import (
	"maps"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach"
	"github.com/connpool/connpool/internal/reach/dialing"
)

// Observation is what is true of a target now.
type Observation struct {
	// ServerVersion is what the server calls itself; empty before the first
	// connection.
	ServerVersion string
	// Warning says without which part of its access the target is dialed, such as a line
	// of its pinned keys; empty if with all.
	Warning string
	// Pools that have the target, in no particular order.
	Pools []PoolObservation
	// JumpHost is the connections by which the target is the jump host of others,
	// which no pool owns. It is nil if no target behind it is in use.
	JumpHost *PoolObservation
}

// PoolObservation is one pool's share of a target.
type PoolObservation struct {
	Pool, Target Ref
	// Type is the target's protocol.
	Type string
	// MinWarm is how many connections the pool keeps.
	MinWarm int
	// Paused reports whether the pool hands out nothing.
	Paused bool
	connpool.Stats
	Health HealthState
	// Err is why Health is Down; nil when it is not.
	Err *driver.Error
	// DialFailures counts failed dials by reason, without the errors of other pools'
	// dials.
	DialFailures map[driver.Reason]uint64
	// Departed reports whether the target is no longer the pool's, so that its
	// health means nothing. Only Snapshot returns such observations.
	Departed bool
}

// Meter is told how long each acquire and successful dial of a pool took, and the stages of
// the dial, which it must not change. It must not block.
type Meter interface {
	Acquired(pool Ref, kind string, how connpool.How, took time.Duration)
	Dialed(pool Ref, kind string, took time.Duration, stages []dialing.Passage)
}

// Connection is one live connection of a pool to a target, as it is now.
type Connection struct {
	Pool, Target Ref
	// Type is the target's protocol.
	Type string
	// ID is unique among the pool's connections to the target.
	ID    uint64
	State connpool.State
	// Created and LastUsed are equal before the first use.
	Created, LastUsed time.Time
	// Uses counts the uses that have ended, Leases those that go on.
	Uses   int64
	Leases int
	Info   driver.Info
}

// plus adds the counters of another observation. The sum is of what has departed.
func (o PoolObservation) plus(other PoolObservation) PoolObservation {
	o.Departed, o.Pool, o.Type = true, other.Pool, other.Type
	o.Count(&other.Stats)
	failures := map[driver.Reason]uint64{}
	maps.Copy(failures, o.DialFailures)
	for reason, n := range other.DialFailures {
		failures[reason] += n
	}
	o.DialFailures = failures
	return o
}

// observeJumpHost returns what is true of a jump host: its newest dial says all
// that is known of it.
func observeJumpHost(ref Ref, pool *reach.Pool) *PoolObservation {
	stats := pool.Stats()
	o := &PoolObservation{Target: ref, Stats: stats}
	switch {
	case stats.Dial.Failures > 0:
		o.Health, o.Err = HealthDown, driver.AsError(stats.Dial.Err)
	case stats.Dials.Succeeded > 0:
		o.Health = HealthUp
	}
	return o
}

// Refused returns why new credentials could not be proven while the old ones serve;
// nil when there are none, or when no attempt has ended.
func (o PoolObservation) Refused() *driver.Error {
	if o.Rotation.Err == nil {
		return nil
	}
	return driver.AsError(o.Rotation.Err)
}
