package poolset

import "maps"

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

func newDeparted() departed {
	return departed{leaving: map[*member]string{}, totals: map[departedKey]PoolObservation{}}
}

// closed moves the counters of a member that has closed into the totals.
func (d departed) closed(m *member) {
	kind := d.leaving[m]
	delete(d.leaving, m)
	key := departedKey{m.owner.UID, kind}
	d.totals[key] = d.totals[key].plus(m.observation(kind))
}

// forget drops the totals of pools that have no target any more.
func (d departed) forget(pools map[string]map[string]*member) {
	maps.DeleteFunc(d.totals, func(key departedKey, _ PoolObservation) bool { return pools[key.pool] == nil })
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
