package registry

import (
	"fmt"
	"sync"
)

// uses counts what uses pools now.
type uses struct {
	limits Limits
	// cutting is closed when what is left is to be cut.
	cutting chan struct{}
	cutOnce sync.Once

	// mu guards what follows; nothing waits under it.
	mu      sync.Mutex
	total   int
	users   map[string]int
	pools   map[poolName]int
	waiting []chan struct{} // closed when total is 0
}

// poolName identifies a pool for the bounds on its uses.
type poolName struct{ namespace, name string }

func newUses(limits Limits) *uses {
	return &uses{limits: limits, cutting: make(chan struct{}), users: map[string]int{}, pools: map[poolName]int{}}
}

// cut ends what is left.
func (u *uses) cut() { u.cutOnce.Do(func() { close(u.cutting) }) }

// begin counts one use more, until end is called once. The error is a refusal
// with 429 that names the limit.
func (u *uses) begin(user string, pool poolName) (end func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case reached(u.users[user], u.limits.StreamsPerUser):
		return nil, tooMany("user", u.limits.StreamsPerUser, "--max-streams-per-user")
	case reached(u.pools[pool], u.limits.StreamsPerPool):
		return nil, tooMany("pool", u.limits.StreamsPerPool, "--max-streams-per-pool")
	}
	u.total++
	u.users[user]++
	u.pools[pool]++
	return func() { u.end(user, pool) }, nil
}

// join counts what belongs to a use that is counted already. It is waited for, and
// never refused.
func (u *uses) join() (end func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.leave()
	}, nil
}

func reached(have, limit int) bool { return limit > 0 && have >= limit }

func tooMany(of string, limit int, flag string) error {
	return refusedBeforeStart(tooManyRequests, "", fmt.Sprintf(
		"the %s has %d uses of connections at the same time, which is the limit of the operator's flag %s; "+
			"wait for one to end", of, limit, flag))
}

func (u *uses) end(user string, pool poolName) {
	u.mu.Lock()
	defer u.mu.Unlock()
	countDown(u.users, user)
	countDown(u.pools, pool)
	u.leave()
}

// leave counts one less. mu is held.
func (u *uses) leave() {
	if u.total--; u.total > 0 {
		return
	}
	for _, waiter := range u.waiting {
		close(waiter)
	}
	u.waiting = nil
}

// countDown forgets what has come to 0, so that the map has only what is used.
func countDown[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// idle is closed when nothing is used.
func (u *uses) idle() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	idle := make(chan struct{})
	if u.total == 0 {
		close(idle)
	} else {
		u.waiting = append(u.waiting, idle)
	}
	return idle
}
