package use

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/quota"
)

// Pools is what uses need of a poolset.Set.
type Pools interface {
	// Acquire leases a connection.
	Acquire(ctx context.Context, request poolset.Request) (poolset.Lease, error)
	// ExecOn runs a command on a lease and ends the lease.
	ExecOn(
		ctx context.Context, lease poolset.Lease, request poolset.Request, command driver.Command, streams driver.Streams,
	) (poolset.Execution, error)
	// Return ends a lease after what was done with it has ended with err.
	Return(lease poolset.Lease, err error)
}

// Objects reads declared objects from a cache. The error for an object that does
// not exist satisfies apierrors.IsNotFound. The cache owns what is returned.
type Objects interface {
	Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error)
	Target(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error)
	// Targets returns those of a namespace, or of all when it is empty.
	Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error)
}

// Config is what a Gate works with.
type Config struct {
	// Pools, Objects and Authorizer are required.
	Pools      Pools
	Objects    Objects
	Authorizer authorizer.UnconditionalAuthorizer
	// Audit gets a line for every use when it starts, ends or is refused; the zero value none.
	Audit logr.Logger
	// AuditCommands puts the words of commands into these lines. They may hold
	// secrets; standard input and the environment are never written.
	AuditCommands bool
	Limits        Limits
}

// Gate admits uses. It is safe for concurrent use.
type Gate struct {
	// Config is as it was given to NewGate.
	Config Config
	// Memory is what all requests share.
	Memory Memory

	*counter

	deliveries deliveries
}

// NewGate makes a gate.
func NewGate(config Config) *Gate {
	return &Gate{Config: config, Memory: newMemory(config.Limits), counter: newCounter(config.Limits)}
}

// PoolName identifies a pool.
type PoolName struct{ Namespace, Name string }

// counter counts the uses that run.
type counter struct {
	limits     Limits
	canceled   chan struct{}
	cancelOnce sync.Once

	// streams counts uses, forwards the connections through port-forwards.
	streams, forwards *quota.Quota

	// mu guards what follows; nothing waits under it.
	mu      sync.Mutex
	total   int
	pools   map[PoolName]int
	waiting []chan struct{} // closed when total is 0
}

func newCounter(limits Limits) *counter {
	return &counter{
		limits: limits, canceled: make(chan struct{}), pools: map[PoolName]int{},
		streams:  quota.New(limits.bounds(limits.Streams, limits.StreamsPerUser)),
		forwards: quota.New(limits.bounds(limits.Forwards, limits.ForwardsPerUser)),
	}
}

// Cancel ends all uses: their contexts end with ErrShutdown.
func (c *counter) Cancel() { c.cancelOnce.Do(func() { close(c.canceled) }) }

// begin counts one more use until end is called once, or refuses it with 429.
func (c *counter) begin(user string, pool PoolName) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most := c.limits.StreamsPerPool; most > 0 && c.pools[pool] >= most {
		return nil, tooMany("the pool has", "uses of connections", most, "--max-streams-per-pool")
	}
	owner := quota.Owner{Namespace: pool.Namespace, User: user}
	if full := c.streams.Take(owner, 1); full != quota.Free {
		return nil, c.limits.refuseStream(full)
	}
	c.total++
	c.pools[pool]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.streams.Add(owner, -1)
		countDown(c.pools, pool)
		c.release()
	}, nil
}

// Join counts a part of a use that the limits count already, until end is called
// once. Idle waits for it, and no limit refuses it.
func (c *counter) Join() (end func(), err error) {
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
func (c *counter) release() {
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
func (c *counter) Idle() <-chan struct{} {
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
