package connpool

import (
	"context"
	"errors"
	"sync"
	"time"
)

// streakMemory is how long a route that failed is remembered after its last
// dial: longer than any backoff, so that it is still known when it is retried.
const streakMemory = time.Hour

// Budget bounds the dials that run at once in a process, to one host and
// through one jump host. It is shared by pools.
//
// Hosts that do not answer must not keep those that do waiting, however many
// they are: a route whose last dial failed comes after all others, and such
// routes together have two thirds of the places.
type Budget struct {
	process, perHost, perJumpHost int
	// failingPlaces bounds the dials of routes whose last dial failed.
	failingPlaces int

	mu sync.Mutex
	// running counts admitted dials in all, failing those among them of routes
	// that were in a streak of failures, hosts and jump hosts by those.
	running, failing int
	hosts, jumpHosts map[string]int
	// queues holds the callers who wait, by route; trusted and doubted are the
	// orders in which the routes of each class get their turn.
	queues                     map[route]*routeQueue
	healthyTurns, failingTurns list[*routeQueue]
	// streaks holds the routes whose last dial failed; oldest first in byAge.
	streaks map[route]*element[streak]
	byAge   list[streak]
}

// route is what two dials share that wait for the same places.
type route struct{ host, jumpHost string }

// routeQueue is the callers who wait for one route, in order of arrival.
type routeQueue struct {
	route   route
	turn    element[*routeQueue]
	callers list[*admission]
}

// admission is a caller of Admit. Its class is set before admitted is closed.
type admission struct {
	admitted chan struct{}
	failing  bool
}

// streak is that the last dial of a route failed, and when.
type streak struct {
	route route
	last  time.Time
}

// NewBudget makes a budget of so many dials at once for the process, each host
// and each jump host.
func NewBudget(process, perHost, perJumpHost int) *Budget {
	return &Budget{
		process:       process,
		perHost:       perHost,
		perJumpHost:   perJumpHost,
		failingPlaces: max(1, process*2/3),
		hosts:         map[string]int{},
		jumpHosts:     map[string]int{},
		queues:        map[route]*routeQueue{},
		streaks:       map[route]*element[streak]{},
	}
}

// Admit waits for its turn to dial hostKey, through jumpHostKey unless that is
// empty, and returns what gives the place back and takes the dial's result: nil,
// or why it failed; a dial that was canceled tells nothing. Turns are first come,
// first served within a host and go round between hosts, so that the callers of
// one host do not block another's. The error is that of ctx.
func (b *Budget) Admit(ctx context.Context, hostKey, jumpHostKey string) (done func(result error), err error) {
	r := route{hostKey, jumpHostKey}
	d := &admission{admitted: make(chan struct{})}
	var once sync.Once
	done = func(result error) { once.Do(func() { b.leave(r, d, result) }) }
	caller := &element[*admission]{value: d}
	b.enqueue(r, caller)
	select {
	case <-d.admitted:
		return done, nil
	case <-ctx.Done():
	}
	if b.withdraw(r, caller) {
		return nil, ctx.Err()
	}
	done(context.Canceled) // admitted just now, but nobody is left to dial
	return nil, ctx.Err()
}

func (b *Budget) enqueue(r route, caller *element[*admission]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[r]
	if q == nil {
		q = &routeQueue{route: r}
		q.turn.value = q
		b.queues[r] = q
		b.class(r).pushBack(&q.turn)
	}
	q.callers.pushBack(caller)
	b.admit()
}

// class is the order in which a route gets its turn.
func (b *Budget) class(r route) *list[*routeQueue] {
	if b.streaks[r] != nil {
		return &b.failingTurns
	}
	return &b.healthyTurns
}

// withdraw takes a caller out of its queue and reports whether it was there.
func (b *Budget) withdraw(r route, caller *element[*admission]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if caller.in == nil {
		return false
	}
	caller.leave()
	b.forget(b.queues[r])
	return true
}

func (b *Budget) leave(r route, d *admission, result error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	if d.failing {
		b.failing--
	}
	release(b.hosts, r.host)
	release(b.jumpHosts, r.jumpHost)
	if !errors.Is(result, context.Canceled) {
		b.learn(r, result == nil, time.Now())
	}
	b.admit()
}

// release counts down and forgets what has come to nothing.
func release(counts map[string]int, key string) {
	counts[key]--
	if counts[key] == 0 {
		delete(counts, key)
	}
}

// learn takes note of how a route's dial ended, and forgets streaks so old that
// nobody seems to dial those routes any more.
func (b *Budget) learn(r route, good bool, now time.Time) {
	b.endStreak(r)
	if !good {
		e := &element[streak]{value: streak{r, now}}
		b.streaks[r] = e
		b.byAge.pushBack(e)
	}
	if q := b.queues[r]; q != nil && q.turn.in != b.class(r) {
		q.turn.leave()
		b.class(r).pushBack(&q.turn)
	}
	for e := b.byAge.head; e != nil && now.Sub(e.value.last) > streakMemory; e = b.byAge.head {
		b.endStreak(e.value.route)
	}
}

// endStreak takes it that a route is good. Callers who wait keep their class.
func (b *Budget) endStreak(r route) {
	if e := b.streaks[r]; e != nil {
		e.leave()
		delete(b.streaks, r)
	}
}

// admit lets in whoever may, each route in its turn, those in doubt last.
func (b *Budget) admit() {
	for b.running < b.process {
		q := b.first(&b.healthyTurns)
		if q == nil && b.failing < b.failingPlaces {
			q = b.first(&b.failingTurns)
		}
		if q == nil {
			return
		}
		b.admitFirst(q)
	}
}

// first is the route whose turn it is among those that may dial; nil if none.
func (b *Budget) first(turns *list[*routeQueue]) *routeQueue {
	for turn := turns.head; turn != nil; turn = turn.next {
		if b.mayDial(turn.value.route) {
			return turn.value
		}
	}
	return nil
}

func (b *Budget) mayDial(r route) bool {
	return b.hosts[r.host] < b.perHost && (r.jumpHost == "" || b.jumpHosts[r.jumpHost] < b.perJumpHost)
}

// admitFirst lets in the first caller of a route, whose next turn comes last.
func (b *Budget) admitFirst(q *routeQueue) {
	caller := q.callers.head
	caller.leave()
	b.running++
	b.hosts[q.route.host]++
	b.jumpHosts[q.route.jumpHost]++
	turns := q.turn.in
	if turns == &b.failingTurns {
		caller.value.failing = true
		b.failing++
	}
	q.turn.leave()
	turns.pushBack(&q.turn)
	b.forget(q)
	close(caller.value.admitted)
}

// forget drops a route that nobody waits for.
func (b *Budget) forget(q *routeQueue) {
	if q.callers.len == 0 {
		q.turn.leave()
		delete(b.queues, q.route)
	}
}
