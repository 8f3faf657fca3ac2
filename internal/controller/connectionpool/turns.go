package connectionpool

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
)

const (
	// share is which part of the time the reconciliations of one pool may take: one in so
	// many. Each looks at all targets of the pool, and each target that changes asks for
	// one. Without the share, the cost of a start would grow with the square of the targets.
	share = 20
	// longestWait bounds how long a pool waits for its turn. It is reached when one
	// reconciliation takes 100 ms.
	longestWait = 2 * time.Second
)

// turns remembers the last reconciliation of each pool. The zero value is ready to use,
// and methods are safe for concurrent use.
type turns struct {
	mu   sync.Mutex
	last map[types.UID]turn
}

// turn is a reconciliation of one generation of a pool.
type turn struct {
	generation int64
	// next is when the next one may begin.
	next time.Time
}

// wait returns how long the pool has to wait for its turn; 0 if its time has come, or its
// spec has changed.
func (t *turns) wait(now time.Time, pool *v1alpha1.ConnectionPool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, ok := t.last[pool.UID]
	if !ok || last.generation != pool.Generation {
		return 0
	}
	return max(0, last.next.Sub(now))
}

// took notes a reconciliation of the pool.
func (t *turns) took(pool *v1alpha1.ConnectionPool, began, ended time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[types.UID]turn{}
	}
	gap := min(share*ended.Sub(began), longestWait)
	t.last[pool.UID] = turn{generation: pool.Generation, next: ended.Add(gap)}
}

func (t *turns) forget(pool types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, pool)
}
