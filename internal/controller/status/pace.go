// Package status writes what the controllers have observed. Conditions collects
// conditions, Pace decides when a change is worth an API write, and Writer writes by
// server-side apply and records events when something fails or works again. Tallies keep
// sums from falling.
//
// Every write costs the control plane space in etcd and a message to every watcher.
// So a status is written at once when a condition changes, seconds later when something
// else changed that users wait for, and never when nothing changed. Counters, which
// change all the time, are written at most once per Interval for each object. All such
// writes together share one Rate, in the order in which they became due.
package status

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
)

const (
	// Interval is the shortest time between two writes of one object's counters: three of
	// them in two minutes of steady use.
	Interval = 40 * time.Second
	// Rate is how many writes of counters there may be per second, over all objects.
	Rate = 2
	// settle is how long a change waits for others of the same cause, so that one
	// write covers them.
	settle = 2 * time.Second
	// notableBurst and notableEvery bound the Notable writes of one object: so many at
	// once, and then one each time. A pool whose connections come and go all the time
	// would otherwise be written every few seconds.
	notableBurst = 5
	notableEvery = 15 * time.Second
	// arrivalBurst and arrivalRate bound the Arrival writes of all objects: so many at once,
	// and so many more per second. arrivalRetry is when one without room tries again. Of
	// thousands of targets that start together nearly all have their verdict by then.
	arrivalBurst = 50
	arrivalRate  = 10
	arrivalRetry = 10 * time.Second
)

// Urgency is how soon a change of a status is to be written.
type Urgency int

const (
	// Counters means that only counters changed, or messages about what comes and goes.
	// They wait for the Interval and for the Rate.
	Counters Urgency = iota
	// Notable means that something changed that users wait for, such as the message that
	// says what they have to change. It is written as soon as it has settled.
	Notable
	// Arrival means that conditions changed to say that an object that has not been ready
	// yet is on its way. The verdict usually follows within moments, and one write covers
	// both. So it waits until it has settled, and for the arrivalRate.
	Arrival
	// Transition means that a condition changed. It is written at once.
	Transition
)

// Pace decides when the statuses of one kind of object are written. It is safe for
// concurrent use for different objects.
type Pace[S any] struct {
	budget   *rate.Limiter
	arrivals *rate.Limiter

	mu   sync.Mutex
	last map[types.UID]written[S]
}

// written is the status of an object that was written last.
type written[S any] struct {
	status S
	// at is when this process wrote it; zero if an earlier process did.
	at time.Time
	// dirty is when the object first differed from it; zero if it does not.
	dirty time.Time
	// writeAt is when the budget has room for the next write; zero if no room has
	// been reserved.
	writeAt time.Time
	// notable are the object's Notable writes; nil before the first one.
	notable *rate.Limiter
}

// NewBudget returns the Rate that all paces of a process share.
func NewBudget() *rate.Limiter { return rate.NewLimiter(Rate, 1) }

// NewPace returns a pace whose writes of counters spend from the budget.
func NewPace[S any](budget *rate.Limiter) *Pace[S] {
	return &Pace[S]{budget: budget, arrivals: rate.NewLimiter(arrivalRate, arrivalBurst), last: map[types.UID]written[S]{}}
}

// Last returns the status that was written last. If this process has not written one,
// it is the observed status, which may come from a cache that lags behind. Once the cache
// has it, it is kept as the cache's, so that it is in memory once.
func (p *Pace[S]) Last(uid types.UID, observed S) S {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.last[uid]
	if !ok || equality.Semantic.DeepEqual(last.status, observed) {
		last.status = observed
		p.last[uid] = last
	}
	return last.status
}

// Due reports whether the caller must write the status now, and otherwise after what
// time to ask again; 0 means that nothing changed.
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
	if urgency == Arrival {
		p.last[uid] = last
		return p.arrive(now, last.dirty.Add(settle))
	}
	due := last.due(now, urgency)
	if last.writeAt.IsZero() && !now.Before(due) {
		last.writeAt = now.Add(p.budget.ReserveN(now, 1).DelayFrom(now))
	}
	if urgency == Notable && !now.Before(due) {
		last.writeAt = now // it spends from the budget, but does not wait for it
		last.notable.AllowN(now, 1)
	}
	p.last[uid] = last
	if last.writeAt.IsZero() {
		return false, due.Sub(now)
	}
	if wait := last.writeAt.Sub(now); wait > 0 {
		return false, wait
	}
	return true, 0
}

// arrive reports whether an Arrival that settles at that time is to be written now.
func (p *Pace[S]) arrive(now, settled time.Time) (write bool, after time.Duration) {
	switch {
	case now.Before(settled):
		return false, settled.Sub(now)
	case p.arrivals.AllowN(now, 1):
		return true, 0
	}
	return false, arrivalRetry
}

// due returns when the next write may spend from the budget.
func (w *written[S]) due(now time.Time, urgency Urgency) time.Time {
	settled, due := w.dirty.Add(settle), w.at.Add(Interval)
	if urgency == Notable {
		due = now.Add(w.untilNotable(now))
	}
	if due.Before(settled) {
		return settled
	}
	return due
}

// untilNotable returns how long a Notable write has to wait for earlier ones.
func (w *written[S]) untilNotable(now time.Time) time.Duration {
	if w.notable == nil {
		w.notable = rate.NewLimiter(rate.Every(notableEvery), notableBurst)
	}
	missing := 1 - w.notable.TokensAt(now)
	return time.Duration(max(0, missing) * float64(notableEvery))
}

// Wrote remembers a status that was written.
func (p *Pace[S]) Wrote(now time.Time, uid types.UID, status S) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[uid] = written[S]{status: status, at: now, notable: p.last[uid].notable}
}

// Forget drops an object that does not exist any more.
func (p *Pace[S]) Forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, uid)
}

// UIDs remembers the UIDs of objects by their names. When an object is gone, only its
// name is left. The zero value is ready to use, and methods are safe for concurrent
// use.
type UIDs struct {
	known sync.Map // types.UID by types.NamespacedName
}

// Replace remembers the UID of the object of that name, or forgets the name if the
// UID is empty. It returns the UID of an earlier object of that name, or "" if there
// was none or it has the same UID.
func (u *UIDs) Replace(name types.NamespacedName, uid types.UID) types.UID {
	previous, _ := u.known.Swap(name, uid)
	u.known.CompareAndDelete(name, types.UID(""))
	if earlier, ok := previous.(types.UID); ok && earlier != uid {
		return earlier
	}
	return ""
}

// CameToRest reports whether no connection is dialed or drained any more and the figures
// that were written last are about another moment. Until then they are about to change
// again, and nothing would correct them afterwards. A target that fails lacks some of the
// desired connections: its figures come and go, and its conditions speak for it.
func CameToRest(last, next v1alpha1.ConnectionCounts, desired int32) bool {
	last.InUse, next.InUse = nil, nil
	return ptr.Deref(next.Dialing, 0) == 0 && ptr.Deref(next.Draining, 0) == 0 && ptr.Deref(next.Warm, 0) >= desired &&
		!equality.Semantic.DeepEqual(last, next)
}
