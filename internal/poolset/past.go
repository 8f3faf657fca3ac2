package poolset

import (
	"maps"

	"github.com/connpool/connpool/internal/driver"
)

// past is what the targets that have left a pool counted while they were in it.
// It lasts as long as the pool has a target.
type past struct {
	// leaving are the members that still drain, with their protocol.
	leaving map[*member]string
	// totals are those of the members that are closed.
	totals map[pastKey]PoolObservation
}

type pastKey struct{ pool, kind string }

func newPast() past {
	return past{leaving: map[*member]string{}, totals: map[pastKey]PoolObservation{}}
}

// left moves a member that has closed into the totals.
func (s *Set) left(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := s.past.leaving[m]
	delete(s.past.leaving, m)
	s.past.forget(s.pools)
	if s.pools[m.owner.UID] == nil {
		return
	}
	o, _ := m.observation(kind)
	key := pastKey{m.owner.UID, kind}
	s.past.totals[key] = sum(s.past.totals[key], o)
}

// forget drops the totals of pools that are gone.
func (p past) forget(pools map[string]map[string]*member) {
	maps.DeleteFunc(p.totals, func(key pastKey, _ PoolObservation) bool { return pools[key.pool] == nil })
}

// appendTo adds what is past of the pools that live.
func (p past) appendTo(all []PoolObservation, pools map[string]map[string]*member) []PoolObservation {
	for m, kind := range p.leaving {
		if pools[m.owner.UID] != nil {
			o, _ := m.observation(kind)
			o.Left = true
			all = append(all, o)
		}
	}
	for key, o := range p.totals {
		if pools[key.pool] != nil {
			all = append(all, o)
		}
	}
	return all
}

// sum adds the counters of an observation to the totals.
func sum(total, o PoolObservation) PoolObservation {
	total.Left, total.Pool, total.Type = true, o.Pool, o.Type
	total.Uses += o.Uses
	for how := range o.Acquired {
		total.Acquired[how].Count += o.Acquired[how].Count
		total.Acquired[how].Wait += o.Acquired[how].Wait
	}
	total.Dials.Succeeded += o.Dials.Succeeded
	total.Dials.Failed += o.Dials.Failed
	total.Dials.Abandoned += o.Dials.Abandoned
	total.Dials.Time += o.Dials.Time
	total.Probes.Succeeded += o.Probes.Succeeded
	total.Probes.Failed += o.Probes.Failed
	failures := map[driver.Reason]uint64{}
	maps.Copy(failures, total.DialFailures)
	for reason, n := range o.DialFailures {
		failures[reason] += n
	}
	total.DialFailures = failures
	return total
}
