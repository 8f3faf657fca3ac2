package metrics

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
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

// Conditions collects what the conditions of pools say. The controller of pools hands
// over each pool as it reports it. The zero value is ready to use, and methods are safe
// for concurrent use.
type Conditions struct {
	mu    sync.Mutex
	pools map[string]poolConditions // by UID
}

type poolConditions struct {
	namespace, name string
	conditions      []Condition
	failing         map[Failing]int
}

var _ prometheus.Collector = &Conditions{}

var (
	conditions = prometheus.NewDesc("connpool_pool_condition",
		"Conditions of the pool, each 1 while it is there with this status and reason.",
		[]string{"namespace", "pool", "condition", "status", "reason"}, nil)
	failing = desc("targets_failing", "Targets of the pool that fail, also those that still serve.", "reason", "stalled", "serving")
)

// Set replaces what is known of the pool with the UID: its conditions, and how many of
// its targets fail.
func (c *Conditions) Set(uid, namespace, name string, conditions []Condition, failing map[Failing]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pools == nil {
		c.pools = map[string]poolConditions{}
	}
	c.pools[uid] = poolConditions{namespace, name, conditions, failing}
}

// Forget drops a pool that does not exist any more.
func (c *Conditions) Forget(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pools, uid)
}

// Describe implements prometheus.Collector.
func (c *Conditions) Describe(out chan<- *prometheus.Desc) { out <- conditions; out <- failing }

// Collect implements prometheus.Collector.
func (c *Conditions) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pool := range c.pools {
		e := emitter{out: out, labels: []string{pool.namespace, pool.name}}
		for _, condition := range pool.conditions {
			e.gauge(conditions, 1, condition.Type, condition.Status, condition.Reason)
		}
		for f, targets := range pool.failing {
			e.gauge(failing, float64(targets), f.Kind, f.Reason, strconv.FormatBool(f.Stalled), strconv.FormatBool(f.Serving))
		}
	}
}
