package shares

import (
	"time"

	"github.com/connpool/connpool/internal/poolset"
)

// Counters are the counters of all shares that were not zero when they were compared last.
// The zero value is ready to use, by one caller at a time.
type Counters struct{ known map[share]counters }

// counters are what changes with each use.
type counters struct {
	uses     int64
	inUse    int
	lastUsed time.Time
}

// share is a pool's share of a target, by their UIDs.
type share struct{ pool, target string }

// Used returns the targets that were used since the last call; one of several pools may
// come more often than once.
func (c *Counters) Used(seen []poolset.PoolObservation) []poolset.Ref {
	var used []poolset.Ref
	now := make(map[share]counters, len(c.known))
	for _, o := range seen {
		found, key := counters{o.Uses, o.InUse, o.LastUsed}, share{o.Pool.UID, o.Target.UID}
		if o.Departed || found == (counters{}) {
			continue
		}
		now[key] = found
		if c.known[key] != found {
			used = append(used, o.Target)
		}
	}
	c.known = now
	return used
}
