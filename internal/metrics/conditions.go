package metrics

import (
	"maps"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connpool/connpool/internal/poolset"
)

// Condition is a condition of a pool.
type Condition struct{ Type, Status, Reason string }

// Failing identifies the failing targets of a pool that are counted together.
type Failing struct {
	// Kind is the protocol of the targets.
	Kind string
	// Reason is why they fail.
	Reason string
	// Stalled reports whether only a change by a person helps, and Serving whether they
	// serve nevertheless, with the connections that they have.
	Stalled, Serving bool
}

// Conditions collects what the conditions of pools say, and the uses of them that failed:
// what there is of each pool that is declared, also if it has no target. The controller of
// pools hands over each pool as it reports it. The zero value is ready to use, and methods
// are safe for concurrent use.
type Conditions struct {
	mu    sync.Mutex
	pools map[string]*declared // by UID
	// named finds the newest pool of a name.
	named map[poolName]*declared
}

type poolName struct{ namespace, name string }

// declared is what is known of a pool. Only what failed changes; the rest is replaced.
type declared struct {
	poolName

	conditions []Condition
	failing    map[Failing]int
	failed     map[failedUses]uint64
}

// failedUses identifies the failed uses of a pool that are counted together.
type failedUses struct{ kind, reason, outcome string }

var _ prometheus.Collector = &Conditions{}

var (
	conditions = prometheus.NewDesc("connpool_pool_condition",
		"Conditions of the pool, each 1 while it is there with this status and reason.",
		[]string{"namespace", "pool", "condition", "status", "reason"}, nil)
	failing    = desc("targets_failing", "Targets of the pool that fail, also those that still serve.", "reason", "stalled", "serving")
	usesFailed = desc("uses_failed_total", "Uses that the operator refused or could not carry out, by reason and outcome. "+
		"The exit code of a command does not matter.", "reason", "outcome")
)

// Set replaces what is known of the pool with the UID: its conditions, and how many of
// its targets fail.
func (c *Conditions) Set(uid, namespace, name string, conditions []Condition, failing map[Failing]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pools == nil {
		c.pools, c.named = map[string]*declared{}, map[poolName]*declared{}
	}
	pool := c.pools[uid]
	if pool == nil {
		pool = &declared{poolName: poolName{namespace, name}, failed: map[failedUses]uint64{}}
		c.pools[uid], c.named[pool.poolName] = pool, pool
	}
	pool.conditions, pool.failing = conditions, failing
}

// UseFailed implements figures.Meter. A pool that is not declared does not count: a user
// may be permitted to use any.
func (c *Conditions) UseFailed(pool poolset.Ref, kind, reason, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.named[poolName{pool.Namespace, pool.Name}]; known != nil {
		known.failed[failedUses{kind, reason, outcome}]++
	}
}

// Forget drops a pool that does not exist any more.
func (c *Conditions) Forget(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := c.pools[uid]
	if gone == nil {
		return
	}
	delete(c.pools, uid)
	if c.named[gone.poolName] == gone {
		delete(c.named, gone.poolName)
	}
}

// Describe implements prometheus.Collector.
func (c *Conditions) Describe(out chan<- *prometheus.Desc) {
	out <- conditions
	out <- failing
	out <- usesFailed
}

// Collect implements prometheus.Collector.
func (c *Conditions) Collect(out chan<- prometheus.Metric) {
	for _, pool := range c.all() {
		e := emitter{out: out, labels: []string{pool.namespace, pool.name}}
		for _, condition := range pool.conditions {
			e.gauge(conditions, 1, condition.Type, condition.Status, condition.Reason)
		}
		for f, targets := range pool.failing {
			e.gauge(failing, float64(targets), f.Kind, f.Reason, strconv.FormatBool(f.Stalled), strconv.FormatBool(f.Serving))
		}
		for f, uses := range pool.failed {
			e.counter(usesFailed, float64(uses), f.kind, f.reason, f.outcome)
		}
	}
}

// all returns the pools as they are, so that a use does not wait until they are collected.
func (c *Conditions) all() []declared {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]declared, 0, len(c.pools))
	for _, pool := range c.pools {
		copied := *pool
		copied.failed = maps.Clone(pool.failed)
		all = append(all, copied)
	}
	return all
}
