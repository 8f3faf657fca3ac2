package connpool

import (
	"context"
	"errors"
	"sync"
	"time"
)

// failureMemory is how long a failed route is remembered after its last dial:
// longer than any backoff, so that it is still known when it is retried.
const failureMemory = time.Hour

// Budget bounds the dials that run at once in a process, to one host and
// through one jump host. Pools share it. A DialFunc asks it; a Pool does not.
//
// Hosts that do not answer must not keep the others waiting, however many they
// are: a route whose last dial failed comes after all others, and such routes
// together have two thirds of the places.
type Budget struct {
	process, perHost, perJumpHost int
	// failingPlaces bounds the dials of routes whose last dial failed.
	failingPlaces int

	mu sync.Mutex
	// running counts all admitted dials, failing those of them whose route's last
	// dial had failed, hosts and jumpHosts those to each host and through each jump
	// host.
	running, failing int
	hosts, jumpHosts map[string]int
	// queues holds the callers who wait, by route. The two lists of turns are the
	// orders in which the healthy and the failing routes get their turn.
	queues                     map[route]*routeQueue
	healthyTurns, failingTurns list[*routeQueue]
	// failed holds the routes whose last dial failed; oldest first in byAge.
	failed map[route]*element[failedRoute]
	byAge  list[failedRoute]
}

// route is the host and the jump host of a dial. Dials of one route wait for the
// same places.
type route struct{ host, jumpHost string }

// routeQueue is the callers who wait for one route, in order of arrival.
type routeQueue struct {
	route   route
	turn    element[*routeQueue]
	callers list[*admission]
}

// admission is a caller of Admit. Its failing is set before admitted is closed.
type admission struct {
	admitted chan struct{}
	failing  bool
}

// failedRoute is a route whose last dial failed, and when.
type failedRoute struct {
	route route
	last  time.Time
}

// NewBudget makes a budget with the numbers of dials that may run at once in the
// process, to each host, and through each jump host.
func NewBudget(process, perHost, perJumpHost int) *Budget {
	return &Budget{
		process:       process,
		perHost:       perHost,
		perJumpHost:   perJumpHost,
		failingPlaces: max(1, process*2/3),
		hosts:         map[string]int{},
		jumpHosts:     map[string]int{},
		queues:        map[route]*routeQueue{},
		failed:        map[route]*element[failedRoute]{},
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
	done(context.Canceled) // admitted just now, but the caller has left
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
		b.turns(r).pushBack(&q.turn)
	}
	q.callers.pushBack(caller)
	b.admit()
}

// turns is the list in which a route gets its turn.
func (b *Budget) turns(r route) *list[*routeQueue] {
	if b.failed[r] != nil {
		return &b.failingTurns
	}
	return &b.healthyTurns
}

// withdraw removes a caller from its queue and reports whether it was there.
func (b *Budget) withdraw(r route, caller *element[*admission]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if caller.in == nil {
		return false
	}
	caller.leave()
	b.dropEmpty(b.queues[r])
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

// release counts down and deletes keys whose count is 0.
func release(counts map[string]int, key string) {
	counts[key]--
	if counts[key] == 0 {
		delete(counts, key)
	}
}

// learn records how a route's dial ended, and forgets failures so old that the
// routes seem to be dialed no more.
func (b *Budget) learn(r route, good bool, now time.Time) {
	b.forgetFailure(r)
	if !good {
		e := &element[failedRoute]{value: failedRoute{r, now}}
		b.failed[r] = e
		b.byAge.pushBack(e)
	}
	if q := b.queues[r]; q != nil && q.turn.in != b.turns(r) {
		q.turn.leave()
		b.turns(r).pushBack(&q.turn)
	}
	for e := b.byAge.head; e != nil && now.Sub(e.value.last) > failureMemory; e = b.byAge.head {
		b.forgetFailure(e.value.route)
	}
}

// forgetFailure makes a route a healthy one. Its queue stays in its list of turns.
func (b *Budget) forgetFailure(r route) {
	if e := b.failed[r]; e != nil {
		e.leave()
		delete(b.failed, r)
	}
}

// admit lets in as many callers as possible, each route in its turn, healthy routes
// first.
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

// first returns the route whose turn it is among those that may dial; nil if no
// route may.
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

// admitFirst lets in the first caller of a route. The route's next turn comes last.
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
	b.dropEmpty(q)
	close(caller.value.admitted)
}

// dropEmpty forgets the queue of a route that no caller waits for.
func (b *Budget) dropEmpty(q *routeQueue) {
	if q.callers.len == 0 {
		q.turn.leave()
		delete(b.queues, q.route)
	}
}
