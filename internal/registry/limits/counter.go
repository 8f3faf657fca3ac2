package limits

import (
	"sync"

	"github.com/connpool/connpool/internal/registry/quota"
)

// pool identifies a pool.
type pool struct{ namespace, name string }

// Counter counts the uses that run. It is safe for concurrent use.
type Counter struct {
	limits     Limits
	canceled   chan struct{}
	cancelOnce sync.Once

	// streams counts uses, forwards the connections through port-forwards.
	streams, forwards *quota.Quota

	// mu guards what follows; nothing waits under it.
	mu      sync.Mutex
	total   int
	pools   map[pool]int
	waiting []chan struct{} // closed when total is 0
}

// NewCounter returns a Counter of no uses.
func NewCounter(limits Limits) *Counter {
	return &Counter{
		limits: limits, canceled: make(chan struct{}), pools: map[pool]int{},
		streams:  quota.New(limits.bounds(limits.Streams, limits.StreamsPerUser)),
		forwards: quota.New(limits.bounds(limits.Forwards, limits.ForwardsPerUser)),
	}
}

// Cancel says that all uses must end.
func (c *Counter) Cancel() { c.cancelOnce.Do(func() { close(c.canceled) }) }

// Canceled is closed by Cancel.
func (c *Counter) Canceled() <-chan struct{} { return c.canceled }

// Begin counts one more use of a pool in the owner's namespace until end is called once,
// or refuses it with 429.
func (c *Counter) Begin(owner quota.Owner, name string) (end func(), err error) {
	of := pool{owner.Namespace, name}
	c.mu.Lock()
	defer c.mu.Unlock()
	if most := c.limits.StreamsPerPool; most > 0 && c.pools[of] >= most {
		return nil, tooMany("the pool has", "uses of connections", most, "--max-streams-per-pool")
	}
	if full := c.streams.Take(owner, 1); full != quota.Free {
		return nil, c.limits.refuseStream(full)
	}
	return c.count(owner, of), nil
}

// BeginSpare is Begin for one of the many uses that a single request makes. Such uses take
// only the first half of each limit: the other half stays for other requests. ok is false
// if there is no room for now.
func (c *Counter) BeginSpare(owner quota.Owner, name string) (end func(), ok bool) {
	of := pool{owner.Namespace, name}
	c.mu.Lock()
	defer c.mu.Unlock()
	if most := c.limits.StreamsPerPool; most > 0 && c.pools[of] >= max(1, most/2) {
		return nil, false
	}
	if c.streams.TakeSpare(owner, 1) != quota.Free {
		return nil, false
	}
	return c.count(owner, of), true
}

// count counts one more use, which streams counts already, until end is called once. mu is
// held.
func (c *Counter) count(owner quota.Owner, of pool) (end func()) {
	c.total++
	c.pools[of]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.streams.Add(owner, -1)
		countDown(c.pools, of)
		c.release()
	}
}

// Join counts a part of a use that the limits count already, until end is called
// once. Idle waits for it, and no limit refuses it.
func (c *Counter) Join() (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.release()
	}, nil
}

// release counts one use less. mu is held.
func (c *Counter) release() {
	if c.total--; c.total > 0 {
		return
	}
	for _, waiter := range c.waiting {
		close(waiter)
	}
	c.waiting = nil
}

// countDown deletes a key whose count comes to 0, so that the map does not grow.
func countDown[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// Idle returns a channel that is closed once no use runs.
func (c *Counter) Idle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	idle := make(chan struct{})
	if c.total == 0 {
		close(idle)
	} else {
		c.waiting = append(c.waiting, idle)
	}
	return idle
}
