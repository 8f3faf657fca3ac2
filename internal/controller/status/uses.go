package status

import (
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Tallies add up counts so that no sum falls: not when one of its parts begins again at
// 0, and not when a part goes. Each object has one sum. The zero value is ready to use,
// and methods are safe for concurrent use for different objects.
type Tallies struct {
	mu    sync.Mutex
	known map[types.UID]*tally
}

type tally struct {
	sum int64
	// parts are the last counts, which are in the sum.
	parts map[types.UID]int64
}

// Sum returns the sum of an object with these parts. A part that is not among them has
// gone: its count stays in the sum, and if it comes back it counts from 0. The first time
// that this process sums an object up, stored is the sum that an earlier process stored,
// nil if none did, and the parts are taken to be in it.
func (t *Tallies) Sum(object types.UID, stored *int64, parts map[types.UID]int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.known[object]
	if known == nil {
		known = newTally(stored, parts)
		if t.known == nil {
			t.known = map[types.UID]*tally{}
		}
		t.known[object] = known
	}
	known.update(parts)
	return known.sum
}

func newTally(stored *int64, parts map[types.UID]int64) *tally {
	known := new(tally)
	if stored != nil {
		known.update(parts)
		known.sum = max(known.sum, *stored) // the rest is of parts that have gone
	}
	return known
}

func (t *tally) update(parts map[types.UID]int64) {
	for part, count := range parts {
		if before := t.parts[part]; count >= before {
			count -= before
		}
		t.sum += count
	}
	t.parts = parts
}

// Retain drops the objects that keep returns false for.
func (t *Tallies) Retain(keep func(object types.UID) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.known, func(object types.UID, _ *tally) bool { return !keep(object) })
}

// Forget drops an object that does not exist any more.
func (t *Tallies) Forget(object types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, object)
}
