// Package dialbudget bounds the dials that run at once, with a share for each host and
// each namespace.
package dialbudget

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/list"
)

// failureMemory is how long a failed route is remembered after its last dial:
// longer than any backoff, so that it is still known when it is retried.
const failureMemory = time.Hour

// Budget bounds the dials that run at once in a process, to one host and
// through one jump host. Pools share it. A DialFunc asks it; a Pool does not.
//
// Hosts that do not answer must not keep the others waiting, however many they
// are: a route whose last dial failed comes after all others, and such routes
// together have two thirds of the places. Nor must a namespace with many hosts keep
// the others waiting: see places.
//
// What a use waits for comes before what was just declared, for which its author waits, and
// that before what is made ahead, such as all others after a restart.
type Budget struct {
	// The bounds of one namespace that dials alone.
	process, perHost, perJumpHost int
	// failingPlaces bounds the dials of routes whose last dial failed.
	failingPlaces int

	mu sync.Mutex
	// running counts all admitted dials, failing those of them whose route's last
	// dial had failed, hosts and jumpHosts those to each host and through each jump
	// host.
	running, failing places
	hosts, jumpHosts map[string]places
	// queues holds the callers who wait, by route. The turns are the orders in which
	// the healthy routes of each rank and the failing ones of each namespace get their
	// turn, lastTurn counts them.
	queues       map[Route]*routeQueue
	healthyTurns [ranks]turns
	failingTurns turns
	lastTurn     uint64
	// failed holds the routes whose last dial failed; oldest first in byAge.
	failed map[Route]*list.Element[failedRoute]
	byAge  list.List[failedRoute]
}

// Route is what a dial is for: the namespace, the host, and the jump host on the way,
// if there is one. Dials of one route wait for the same places.
type Route struct{ Namespace, Host, JumpHost string }

// places counts the places that each namespace has taken.
type places map[string]int

// has reports whether a namespace may take one more place. A namespace that is alone
// may take as many as the bound says. All together may take twice as many, and each at
// most half of what the others leave, so that there is a place for the next one, too.
func (p places) has(namespace string, bound int) bool {
	others := -p[namespace]
	for _, n := range p {
		others += n
	}
	left := 2*bound - others
	return p[namespace] < (left+1)/2
}

// rank is how soon the turn of a healthy route comes.
type rank int

const (
	// ahead is the rank of routes that are dialed for nothing in particular.
	ahead rank = iota
	// declared is that of routes of which something was just declared.
	declared
	// wanted is that of routes for which a use waits.
	wanted
	ranks
)

// routeQueue is the callers who wait for one route, in order of arrival.
type routeQueue struct {
	route   Route
	turn    list.Element[*routeQueue]
	since   uint64 // Budget.lastTurn when it was put into its turns
	failing bool   // which turns these are
	rank    rank   // the highest of its callers
	callers list.List[*admission]
}

// admission is a caller of Admit. Its failing is set before admitted is closed.
type admission struct {
	admitted chan struct{}
	failing  bool
}

// failedRoute is a route whose last dial failed, and when.
type failedRoute struct {
	route Route
	last  time.Time
}

// New makes a budget with the numbers of dials that may run at once in the
// process, to each host, and through each jump host, if one namespace dials. Several
// together may run twice as many.
func New(process, perHost, perJumpHost int) *Budget {
	return &Budget{
		process:       process,
		perHost:       perHost,
		perJumpHost:   perJumpHost,
		failingPlaces: max(1, process*2/3),
		running:       places{},
		failing:       places{},
		hosts:         map[string]places{},
		jumpHosts:     map[string]places{},
		queues:        map[Route]*routeQueue{},
		healthyTurns:  [ranks]turns{{}, {}, {}},
		failingTurns:  turns{},
		failed:        map[Route]*list.Element[failedRoute]{},
	}
}

// Admit waits for its turn to dial the route, and returns what gives the place back
// and takes the dial's result: nil, or why it failed; a dial that was canceled tells
// nothing. The namespace with the fewest dials comes first. Its turns are first come,
// first served within a host and go round between hosts, so that the callers of one
// host do not block another's. The error is that of ctx.
func (b *Budget) Admit(ctx context.Context, r Route) (done func(result error), err error) {
	d := &admission{admitted: make(chan struct{})}
	var once sync.Once
	done = func(result error) { once.Do(func() { b.leave(r, d, result) }) }
	caller := &list.Element[*admission]{Value: d}
	b.enqueue(r, caller, rankOf(ctx))
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

type rankKey struct{}

// Wanted returns a context for dials that a use waits for.
func Wanted(ctx context.Context) context.Context { return context.WithValue(ctx, rankKey{}, wanted) }

// Declared returns a context for dials of what was just declared.
func Declared(ctx context.Context) context.Context {
	return context.WithValue(ctx, rankKey{}, declared)
}

func rankOf(ctx context.Context) rank {
	found, _ := ctx.Value(rankKey{}).(rank)
	return found
}

// Hurry is told that a use waits for a dial of the route, which may wait for its turn
// already.
func (b *Budget) Hurry(r Route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[r]; q != nil {
		b.raise(q, wanted)
	}
}

// raise moves a route to the turns of a rank, unless it has that or a higher one.
func (b *Budget) raise(q *routeQueue, to rank) {
	if q.rank < to {
		b.leaveTurns(q)
		q.rank = to
		b.line(q)
	}
}

func (b *Budget) enqueue(r Route, caller *list.Element[*admission], of rank) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[r]
	if q == nil {
		q = &routeQueue{route: r}
		q.turn.Value = q
		b.queues[r] = q
		b.line(q)
	}
	b.raise(q, of)
	q.callers.PushBack(caller)
	b.admit()
}

// line puts a route at the end of the turns of its namespace.
func (b *Budget) line(q *routeQueue) {
	b.leaveTurns(q)
	q.failing = b.failed[q.route] != nil
	b.lastTurn++
	q.since = b.lastTurn
	b.turnsOf(q).add(q)
}

func (b *Budget) leaveTurns(q *routeQueue) {
	if q.turn.In != nil {
		b.turnsOf(q).remove(q)
	}
}

func (b *Budget) turnsOf(q *routeQueue) turns {
	if q.failing {
		return b.failingTurns
	}
	return b.healthyTurns[q.rank]
}

// withdraw removes a caller from its queue and reports whether it was there.
func (b *Budget) withdraw(r Route, caller *list.Element[*admission]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if caller.In == nil {
		return false
	}
	caller.Leave()
	b.dropEmpty(b.queues[r])
	return true
}

func (b *Budget) leave(r Route, d *admission, result error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running.give(r.Namespace)
	if d.failing {
		b.failing.give(r.Namespace)
	}
	give(b.hosts, r.Host, r.Namespace)
	give(b.jumpHosts, r.JumpHost, r.Namespace)
	if !errors.Is(result, context.Canceled) {
		b.learn(r, result == nil, time.Now())
	}
	b.admit()
}

// give gives a place of a namespace back.
func (p places) give(namespace string) {
	p[namespace]--
	if p[namespace] == 0 {
		delete(p, namespace)
	}
}

// give gives a place at a host back, and forgets a host without any.
func give(of map[string]places, host, namespace string) {
	of[host].give(namespace)
	if len(of[host]) == 0 {
		delete(of, host)
	}
}

// occupy takes a place at a host.
func occupy(of map[string]places, host, namespace string) {
	if of[host] == nil {
		of[host] = places{}
	}
	of[host][namespace]++
}

// learn records how a route's dial ended, and forgets failures so old that the
// routes seem to be dialed no more.
func (b *Budget) learn(r Route, good bool, now time.Time) {
	b.forgetFailure(r)
	if !good {
		e := &list.Element[failedRoute]{Value: failedRoute{r, now}}
		b.failed[r] = e
		b.byAge.PushBack(e)
	}
	if q := b.queues[r]; q != nil && q.failing == good {
		b.line(q)
	}
	for e := b.byAge.Head; e != nil && now.Sub(e.Value.last) > failureMemory; e = b.byAge.Head {
		b.forgetFailure(e.Value.route)
	}
}

// forgetFailure makes a route a healthy one. Its queue stays in its turns.
func (b *Budget) forgetFailure(r Route) {
	if e := b.failed[r]; e != nil {
		e.Leave()
		delete(b.failed, r)
	}
}

// admit lets in as many callers as possible, each route in its turn, the highest rank first
// and failing routes last.
func (b *Budget) admit() {
	healthy := &b.healthyTurns
	for {
		q := cmp.Or(b.first(healthy[wanted]), b.first(healthy[declared]), b.first(healthy[ahead]), b.first(b.failingTurns))
		if q == nil {
			return
		}
		b.admitFirst(q)
	}
}

// first returns the route whose turn it is among those that may dial: the first of the
// namespace with the fewest dials. It is nil if no route may.
func (b *Budget) first(of turns) (first *routeQueue) {
	for namespace, routes := range of {
		if !b.running.has(namespace, b.process) {
			continue
		}
		if q := b.firstOf(routes); q != nil && (first == nil || b.isBefore(q, first)) {
			first = q
		}
	}
	return first
}

// firstOf returns the first of a namespace's routes that may dial; nil if none may. It
// passes over ways without a place, and over routes to hosts without one, of which there
// are at most as many as dials run.
func (b *Budget) firstOf(w *ways) (first *routeQueue) {
	var full []*way
	for first == nil && len(w.order) > 0 {
		next := w.order[0]
		if first = b.firstBy(next); first == nil {
			full = append(full, next)
			heap.Pop(&w.order)
		}
	}
	for _, passed := range full {
		heap.Push(&w.order, passed)
	}
	return first
}

// firstBy returns the first route through a jump host that may dial; nil if none may.
func (b *Budget) firstBy(w *way) *routeQueue {
	q := w.routes.Head.Value
	namespace, jumpHost := q.route.Namespace, q.route.JumpHost
	if q.failing && !b.failing.has(namespace, b.failingPlaces) ||
		jumpHost != "" && !b.jumpHosts[jumpHost].has(namespace, b.perJumpHost) {
		return nil
	}
	for turn := w.routes.Head; turn != nil; turn = turn.Next {
		if host := turn.Value.route.Host; b.hosts[host].has(namespace, b.perHost) {
			return turn.Value
		}
	}
	return nil
}

// isBefore reports whether it is q's turn before that of a route of another namespace.
func (b *Budget) isBefore(q, other *routeQueue) bool {
	mine, theirs := b.running[q.route.Namespace], b.running[other.route.Namespace]
	return mine < theirs || mine == theirs && q.since < other.since
}

// admitFirst lets in the first caller of a route. The route's next turn comes last.
func (b *Budget) admitFirst(q *routeQueue) {
	caller := q.callers.Head
	caller.Leave()
	b.running[q.route.Namespace]++
	occupy(b.hosts, q.route.Host, q.route.Namespace)
	occupy(b.jumpHosts, q.route.JumpHost, q.route.Namespace)
	if q.failing {
		caller.Value.failing = true
		b.failing[q.route.Namespace]++
	}
	if q.callers.Len > 0 {
		b.line(q)
	}
	b.dropEmpty(q)
	close(caller.Value.admitted)
}

// dropEmpty forgets the queue of a route that no caller waits for.
func (b *Budget) dropEmpty(q *routeQueue) {
	if q.callers.Len == 0 {
		b.leaveTurns(q)
		delete(b.queues, q.route)
	}
}
