package poolset

import (
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

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

// Connections returns the connections to the targets of a namespace, or to all
// when it is empty, in no particular order. Those that are being closed are not
// in it, nor those that drain because their target has left the pool.
func (s *Set) Connections(namespace string) []Connection {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Connection
	for _, t := range s.targets {
		if namespace != "" && t.Namespace != namespace {
			continue
		}
		for _, m := range t.members {
			all = m.appendConnections(all, t.kind)
		}
	}
	return all
}

func (m *member) appendConnections(all []Connection, kind string) []Connection {
	for _, c := range m.pool.Conns() {
		if c.State == connpool.Closing {
			continue
		}
		all = append(all, Connection{
			Pool: m.owner, Target: m.target, Type: kind, ID: c.ID, State: c.State,
			Created: c.Created, LastUsed: c.LastUsed, Uses: c.Uses, Leases: c.Leases,
			Info: c.Conn.Info(),
		})
	}
	return all
}

// Recycle replaces one connection of a pool to a target, both given by UID, and
// retires it when nothing uses it any more. It reports whether the pool serves
// with such a connection.
func (s *Set) Recycle(pool, target string, id uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.pools[pool][target]
	return m != nil && m.pool.Recycle(id)
}

// RecyclePool replaces every connection of a pool, given by UID, retires each
// when nothing uses it any more, and returns how many there are.
func (s *Set) RecyclePool(pool string) (retired int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.pools[pool] {
		retired += m.pool.RecycleAll()
	}
	return retired
}
