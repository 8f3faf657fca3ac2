package dialbudget

import (
	"container/heap"

	"github.com/connpool/connpool/internal/list"
)

// turns are the routes of each namespace in the order of their turns. A namespace
// without any is not in it.
type turns map[string]*ways

// ways are the routes of a namespace by their jump host, so that those that wait for one
// jump host cost no look, however many they are. A way without routes is not in it.
type ways struct {
	byJumpHost map[string]*way
	order      order
}

// way is the routes through one jump host, or those without one, in the order of their turns.
type way struct {
	routes list.List[*routeQueue]
	index  int // in order
}

// add puts a route at the end.
func (t turns) add(q *routeQueue) {
	of := t[q.route.Namespace]
	if of == nil {
		of = &ways{byJumpHost: map[string]*way{}}
		t[q.route.Namespace] = of
	}
	w := of.byJumpHost[q.route.JumpHost]
	if w != nil {
		w.routes.PushBack(&q.turn)
		return
	}
	w = &way{}
	w.routes.PushBack(&q.turn)
	of.byJumpHost[q.route.JumpHost] = w
	heap.Push(&of.order, w)
}

// remove takes a route out.
func (t turns) remove(q *routeQueue) {
	of := t[q.route.Namespace]
	w := of.byJumpHost[q.route.JumpHost]
	q.turn.Leave()
	if w.routes.Len > 0 {
		heap.Fix(&of.order, w.index)
		return
	}
	heap.Remove(&of.order, w.index)
	delete(of.byJumpHost, q.route.JumpHost)
	if len(of.order) == 0 {
		delete(t, q.route.Namespace)
	}
}

// order is a heap of ways by the turns of their first routes.
type order []*way

// Len implements heap.Interface.
func (o order) Len() int { return len(o) }

// Less implements heap.Interface.
func (o order) Less(i, j int) bool {
	return o[i].routes.Head.Value.since < o[j].routes.Head.Value.since
}

// Swap implements heap.Interface.
func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].index, o[j].index = i, j
}

// Push implements heap.Interface.
func (o *order) Push(added any) {
	w := added.(*way) //nolint:forcetypeassert // as heap.Push is called above
	w.index = len(*o)
	*o = append(*o, w)
}

// Pop implements heap.Interface.
func (o *order) Pop() any {
	last := len(*o) - 1
	w := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	return w
}
