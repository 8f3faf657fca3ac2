// Package status is how the controllers write what they have observed: when it
// is worth an API write (Pace), as conditions (Conditions), by server-side apply
// with an event for each turn (Writer).
//
// A control plane pays for every write with etcd space and with every watcher's
// attention. So a status is written at once when a condition turns, and never
// when nothing changed; figures that move all the time are refreshed at most
// once per Interval for each object, and all refreshes together share one Rate,
// in the order in which they became due.
package status

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// Interval is the least time between two refreshes of one object.
	Interval = 30 * time.Second
	// Rate is how many refreshes there may be per second, over all objects.
	Rate = 2
	// settle lets several changes of one cause become one refresh.
	settle = 2 * time.Second
)

// Urgency is how much a change of a status matters to those who watch it.
type Urgency int

const (
	// Counters have moved: the refresh waits for its Interval.
	Counters Urgency = iota
	// Notable is worth a refresh as soon as what comes with it has settled.
	Notable
	// Transition is a condition that has turned: it is written at once.
	Transition
)

// Pace keeps the time of the statuses of one kind of object. It is safe for
// concurrent use for different objects.
type Pace[S any] struct {
	budget *rate.Limiter

	mu   sync.Mutex
	last map[types.UID]written[S]
}

// written is what an object's status said last.
type written[S any] struct {
	status S
	// at is when it was written; zero when an earlier process wrote it.
	at time.Time
	// dirty is when something first differed from it, and slot when the budget
	// has room for the refresh; zero when not yet.
	dirty, slot time.Time
}

// NewBudget makes what the paces of a process share.
func NewBudget() *rate.Limiter { return rate.NewLimiter(Rate, 1) }

// NewPace makes a pace that spends from the budget.
func NewPace[S any](budget *rate.Limiter) *Pace[S] {
	return &Pace[S]{budget: budget, last: map[types.UID]written[S]{}}
}

// Last returns the status that was written last: what this process remembers,
// else what the object says. The object may come from a cache that has not seen
// the last write yet.
func (p *Pace[S]) Last(uid types.UID, observed S) S {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.last[uid]; ok {
		return last.status
	}
	p.last[uid] = written[S]{status: observed}
	return observed
}

// Due says whether the status must be written now, or after what time to ask
// again; neither when nothing changed.
func (p *Pace[S]) Due(now time.Time, uid types.UID, next S, urgency Urgency) (write bool, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last[uid]
	switch {
	case equality.Semantic.DeepEqual(last.status, next):
		return false, 0
	case urgency == Transition:
		return true, 0
	}
	if last.dirty.IsZero() {
		last.dirty = now
	}
	due := last.due(urgency)
	if last.slot.IsZero() && !now.Before(due) {
		last.slot = now.Add(p.budget.ReserveN(now, 1).DelayFrom(now))
	}
	if urgency == Notable && !now.Before(due) {
		last.slot = now // it pays, but does not queue behind figures
	}
	p.last[uid] = last
	if last.slot.IsZero() {
		return false, due.Sub(now)
	}
	if wait := last.slot.Sub(now); wait > 0 {
		return false, wait
	}
	return true, 0
}

// due is when the refresh may take its place in the budget.
func (w written[S]) due(urgency Urgency) time.Time {
	settled, due := w.dirty.Add(settle), w.at.Add(Interval)
	if urgency == Notable || due.Before(settled) {
		return settled
	}
	return due
}

// Wrote remembers a status that was written.
func (p *Pace[S]) Wrote(now time.Time, uid types.UID, status S) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[uid] = written[S]{status: status, at: now}
}

// Forget drops an object that is gone.
func (p *Pace[S]) Forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, uid)
}
