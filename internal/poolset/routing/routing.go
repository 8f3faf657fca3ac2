// Package routing chooses the target for requests that name none.
//
// A Table keeps the targets of one pool in order of preference, as a heap that is
// mended whenever a load or a health changes. So a choice costs no look at every
// target: at most one comparison for each level of the heap, which has 14 of them for
// 10,000 targets.
package routing

import (
	"cmp"
	"container/heap"
	"sync"

	"github.com/connpool/connpool/internal/connpool"
)

// Table orders the targets of one pool: those that serve come first, then the least
// loaded, then the least recently chosen, then by name. Its zero value is empty. Its
// methods, and those of its entries, are safe for concurrent use; they call nothing and
// are over in less than a microsecond, so they may be called under any lock.
type Table[T any] struct {
	mu      sync.Mutex
	ordered order[T]
	// choices counts the requests that were routed.
	choices uint64
}

// Entry is one target of a Table.
type Entry[T any] struct {
	value T
	name  string
	table *Table[T]

	// The table's lock guards the rest. place is the index in ordered; -1 if the entry is
	// not in it. chosen is choices when a request was last routed to the target.
	place  int
	down   bool
	load   connpool.Load
	chosen uint64
	// coming counts the requests that were routed to the target and are not part of its
	// load yet. Without them all that come meanwhile would get the same target.
	coming int
}

// New makes an entry that is not chosen before Add.
func (t *Table[T]) New(value T, name string) *Entry[T] {
	return &Entry[T]{value: value, name: name, table: t, place: -1}
}

// Add lets an entry be chosen. It must not be in the table yet.
func (t *Table[T]) Add(e *Entry[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	heap.Push(&t.ordered, e)
}

// Remove lets an entry be chosen no more. It must be in the table.
func (t *Table[T]) Remove(e *Entry[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	heap.Remove(&t.ordered, e.place)
}

// Choose returns the value that comes first, whose turn it has had then; false if the
// table is empty. Two requests that come together get different values if they can.
func (t *Table[T]) Choose() (value T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ordered) == 0 {
		return value, false
	}
	first := t.ordered[0].entry
	first.coming++
	first.choose()
	return first.value, true
}

// Refused takes note that a request that chose the entry never became part of its load.
func (e *Entry[T]) Refused() {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	e.coming = max(0, e.coming-1)
	e.mend()
}

// Chosen takes note that a request has named the entry's target: that has had its turn.
func (e *Entry[T]) Chosen() {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	e.choose()
}

func (e *Entry[T]) choose() {
	e.table.choices++
	e.chosen = e.table.choices
	e.mend()
}

// SetLoad says how loaded the target is.
func (e *Entry[T]) SetLoad(load connpool.Load) {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	e.coming = max(0, e.coming-max(0, load.Uses-e.load.Uses))
	e.load = load
	e.mend()
}

// SetDown says whether the target is known not to serve.
func (e *Entry[T]) SetDown(down bool) {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	e.down = down
	e.mend()
}

// mend restores the order after a change of the entry. The caller holds the lock.
func (e *Entry[T]) mend() {
	if e.place >= 0 {
		e.table.ordered[e.place].key = e.key()
		heap.Fix(&e.table.ordered, e.place)
	}
}

// key is what decides on an entry's place, but for its name.
type key struct {
	rank, uses int // rank is 0 for targets that serve and 1 for the others
	chosen     uint64
}

func (e *Entry[T]) key() key {
	k := key{uses: e.load.Uses + e.coming, chosen: e.chosen}
	if e.down || !e.load.Warm {
		k.rank = 1
	}
	return k
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.rank, other.rank), cmp.Compare(k.uses, other.uses), cmp.Compare(k.chosen, other.chosen))
}

// order is a heap whose entries know their places. The keys are in the heap itself, since
// entries are spread over the memory.
type order[T any] []ordered[T]

type ordered[T any] struct {
	key   key
	entry *Entry[T]
}

// Len implements heap.Interface.
func (o *order[T]) Len() int { return len(*o) }

// Less implements heap.Interface.
func (o *order[T]) Less(i, j int) bool {
	a, b := &(*o)[i], &(*o)[j]
	if c := a.key.compare(b.key); c != 0 {
		return c < 0
	}
	return a.entry.name < b.entry.name
}

// Swap implements heap.Interface.
func (o *order[T]) Swap(i, j int) {
	(*o)[i], (*o)[j] = (*o)[j], (*o)[i]
	(*o)[i].entry.place, (*o)[j].entry.place = i, j
}

// Push implements heap.Interface.
func (o *order[T]) Push(e any) {
	entry := e.(*Entry[T]) //nolint:forcetypeassert // only Add pushes
	entry.place = len(*o)
	*o = append(*o, ordered[T]{entry.key(), entry})
}

// Pop implements heap.Interface.
func (o *order[T]) Pop() any {
	last := len(*o) - 1
	entry := (*o)[last].entry
	(*o)[last] = ordered[T]{}
	*o, entry.place = (*o)[:last], -1
	return entry
}
