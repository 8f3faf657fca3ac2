package connpool

import (
	"context"
	"sync"
)

// Budget bounds the dials that run at once in a process, to one host and
// through one bastion. It is shared by pools.
type Budget struct {
	process, perHost, perBastion int

	mu sync.Mutex
	// running counts admitted dials in all, by host and by bastion.
	running         int
	hosts, bastions map[string]int
	// queues holds the callers who wait, by route; turns is the order in which
	// the routes get their turn.
	queues map[route]*routeQueue
	turns  list[*routeQueue]
}

// route is what two dials share that wait for the same places.
type route struct{ host, bastion string }

// routeQueue is the callers who wait for one route, in order of arrival.
type routeQueue struct {
	route   route
	turn    element[*routeQueue]
	callers list[chan struct{}]
}

// NewBudget makes a budget of so many dials at once for the process, each host
// and each bastion.
func NewBudget(process, perHost, perBastion int) *Budget {
	return &Budget{
		process:    process,
		perHost:    perHost,
		perBastion: perBastion,
		hosts:      map[string]int{},
		bastions:   map[string]int{},
		queues:     map[route]*routeQueue{},
	}
}

// Admit waits for its turn to dial hostKey, through bastionKey unless that is
// empty, and returns what gives the place back. Turns are first come, first
// served within a host and go round between hosts, so that the callers of one
// host do not block another's. The error is that of ctx.
func (b *Budget) Admit(ctx context.Context, hostKey, bastionKey string) (done func(), err error) {
	r := route{hostKey, bastionKey}
	done = sync.OnceFunc(func() { b.leave(r) })
	admitted := make(chan struct{})
	caller := &element[chan struct{}]{value: admitted}
	b.enqueue(r, caller)
	select {
	case <-admitted:
		return done, nil
	case <-ctx.Done():
	}
	if b.withdraw(r, caller) {
		return nil, ctx.Err()
	}
	done() // admitted just now, but nobody is left to dial
	return nil, ctx.Err()
}

func (b *Budget) enqueue(r route, caller *element[chan struct{}]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[r]
	if q == nil {
		q = &routeQueue{route: r}
		q.turn.value = q
		b.queues[r] = q
		b.turns.pushBack(&q.turn)
	}
	q.callers.pushBack(caller)
	b.admit()
}

// withdraw takes a caller out of its queue and reports whether it was there.
func (b *Budget) withdraw(r route, caller *element[chan struct{}]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if caller.in == nil {
		return false
	}
	caller.leave()
	b.forget(b.queues[r])
	return true
}

func (b *Budget) leave(r route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	release(b.hosts, r.host)
	release(b.bastions, r.bastion)
	b.admit()
}

// release counts down and forgets what has come to nothing.
func release(counts map[string]int, key string) {
	counts[key]--
	if counts[key] == 0 {
		delete(counts, key)
	}
}

// admit lets in whoever may, each route in its turn.
func (b *Budget) admit() {
	for turn := b.turns.head; turn != nil && b.running < b.process; {
		q := turn.value
		turn = turn.next
		if !b.mayDial(q.route) {
			continue
		}
		b.admitFirst(q)
		turn = b.turns.head
	}
}

func (b *Budget) mayDial(r route) bool {
	return b.hosts[r.host] < b.perHost && (r.bastion == "" || b.bastions[r.bastion] < b.perBastion)
}

// admitFirst lets in the first caller of a route, whose next turn comes last.
func (b *Budget) admitFirst(q *routeQueue) {
	caller := q.callers.head
	caller.leave()
	b.running++
	b.hosts[q.route.host]++
	b.bastions[q.route.bastion]++
	q.turn.leave()
	b.turns.pushBack(&q.turn)
	b.forget(q)
	close(caller.value)
}

// forget drops a route that nobody waits for.
func (b *Budget) forget(q *routeQueue) {
	if q.callers.len == 0 {
		q.turn.leave()
		delete(b.queues, q.route)
	}
}
