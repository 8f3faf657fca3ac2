package shown

import (
	"math"
	"slices"
	"time"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

const (
	// rateOver is the time over which uses per second are counted.
	rateOver = 5 * time.Second
	// longPause is how long polls may pause until what was counted before says nothing
	// about now.
	longPause = 20 * time.Second
	// mostRoundTrips is how many round trips of a connection are remembered.
	mostRoundTrips = 40
)

// History is what earlier polls have said, as far as it is shown: nothing of it is
// kept when the connection has gone.
type History struct {
	at          time.Time
	connections map[string]*past
	meters      map[key]*meter
}

// past is that of one connection.
type past struct {
	uses       int64
	roundTrips []int64
}

// meter counts the uses of a target in a pool that have ended.
type meter struct {
	total int64
	seen  time.Time // when it last had a connection
	marks []mark    // the oldest first
}

type mark struct {
	at    time.Time
	total int64
}

// NewHistory returns the history of no poll.
func NewHistory() *History {
	return &History{connections: map[string]*past{}, meters: map[key]*meter{}}
}

// Learn takes in what a poll has found.
func (h *History) Learn(now time.Time, connections []livev1alpha1.Connection) {
	first := h.at.IsZero() || now.Sub(h.at) > longPause
	h.at = now
	if first {
		h.meters = map[key]*meter{}
	}
	present := make(map[string]*past, len(connections))
	for i := range connections {
		c := &connections[i]
		id := idOf(c)
		before := h.connections[id]
		if before == nil {
			before = &past{}
			if first {
				before.uses = c.UseCount
			}
		}
		present[id] = before
		before.see(c.RoundTripMicroseconds)
		meter := h.meter(keyOf(c))
		meter.total += max(0, c.UseCount-before.uses)
		meter.seen = now
		before.uses = c.UseCount
	}
	h.connections = present
	for k, m := range h.meters {
		m.mark(now)
		if now.Sub(m.seen) > rateOver {
			delete(h.meters, k)
		}
	}
}

func idOf(c *livev1alpha1.Connection) string { return c.Namespace + "/" + c.Name }

// see remembers a round trip. One that is the same to the microsecond is the one
// that was seen before: a keepalive is rarer than a poll.
func (p *past) see(roundTrip int64) {
	if n := len(p.roundTrips); roundTrip == 0 || n > 0 && p.roundTrips[n-1] == roundTrip {
		return
	}
	p.roundTrips = append(p.roundTrips, roundTrip)
	if over := len(p.roundTrips) - mostRoundTrips; over > 0 {
		p.roundTrips = slices.Delete(p.roundTrips, 0, over)
	}
}

func (h *History) meter(k key) *meter {
	if h.meters[k] == nil {
		h.meters[k] = &meter{}
	}
	return h.meters[k]
}

// mark ends an interval, and forgets those that are older than rateOver.
func (m *meter) mark(now time.Time) {
	m.marks = append(m.marks, mark{now, m.total})
	for len(m.marks) > 2 && now.Sub(m.marks[1].at) >= rateOver {
		m.marks = slices.Delete(m.marks, 0, 1)
	}
}

// rate returns how many uses of a target in a pool have ended in a second, to one digit.
func (h *History) rate(k key) float64 {
	m := h.meters[k]
	if m == nil || len(m.marks) < 2 {
		return 0
	}
	first, last := m.marks[0], m.marks[len(m.marks)-1]
	if !last.at.After(first.at) {
		return 0
	}
	return math.Round(10*float64(last.total-first.total)/last.at.Sub(first.at).Seconds()) / 10
}

// roundTrips returns the newest round trips of a connection, the newest last.
func (h *History) roundTrips(c *livev1alpha1.Connection) []int64 {
	if known := h.connections[idOf(c)]; known != nil {
		return slices.Clone(known.roundTrips)
	}
	return []int64{}
}
