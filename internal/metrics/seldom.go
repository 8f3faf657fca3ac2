package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// seldom is histograms of which a pool has one when there is something to observe, and
// none before: most pools have no use of some kinds.
type seldom struct {
	*prometheus.HistogramVec

	// observers finds the prometheus.Observer of a key without a lock.
	observers sync.Map
	// mu is held while the histogram of a key is made or dropped.
	mu sync.Mutex
}

func newSeldom(name, help string, buckets []float64) *seldom {
	return &seldom{HistogramVec: histograms(name, help, buckets, ofPool...)}
}

func (s *seldom) observe(k key, took time.Duration) {
	found, ok := s.observers.Load(k)
	if !ok {
		found = s.add(k)
	}
	found.(prometheus.Observer).Observe(took.Seconds()) //nolint:forcetypeassert // nothing else is in it
}

func (s *seldom) add(k key) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, _ := s.observers.LoadOrStore(k, s.WithLabelValues(k.namespace, k.pool, k.kind))
	return found
}

// collect collects the histograms of the pools that are there, and drops the others.
func (s *seldom) collect(out chan<- prometheus.Metric, pools map[key]*totals) {
	s.observers.Range(func(k, _ any) bool {
		if gone := k.(key); pools[gone] == nil { //nolint:forcetypeassert // nothing else is in it
			s.forget(gone)
		}
		return true
	})
	s.Collect(out)
}

func (s *seldom) forget(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.DeleteLabelValues(k.namespace, k.pool, k.kind)
	s.observers.Delete(k)
}
