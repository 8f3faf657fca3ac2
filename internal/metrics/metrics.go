// Package metrics exposes the live pools to Prometheus. It reads one snapshot at each
// scrape, so nothing is counted twice and no series outlives its pool. Latencies alone
// are observed where they happen, in histograms that go at the scrape after their pool.
//
// The stages of dials are those of all pools, and stay.
//
// Labels are bounded: namespace, pool, type and one label with a fixed set of
// values, never a user, a command or a target. Counters are sums over the targets of
// a pool, including targets that have left it. A pool without targets has no series.
// When it gets a target again, its counters start at 0, as after a restart.
package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// Source provides the snapshot.
type Source interface {
	Snapshot() []poolset.PoolObservation
}

// Collector collects the metrics of pools. It is the Meter of the live ones and of their
// uses, too.
type Collector struct {
	*latencies
	*Conditions

	source Source
}

// NewCollector returns a collector that reads source.
func NewCollector(source Source) *Collector {
	return &Collector{source: source, latencies: newLatencies(), Conditions: new(Conditions)}
}

var _ prometheus.Collector = &Collector{}

var (
	targets     = desc("targets", "Targets of the pool by health.", "health")
	connections = desc("connections", "Connections by state. Warm connections are those in the states idle and in_use.", "state")
	leases      = desc("leases", "Uses of connections that run now.")
	pending     = desc("acquires_pending", "Requests that wait for a connection now.")
	uses        = desc("uses_total", "Uses of connections that have ended.")
	dials       = desc("dials_total", "Dials by result: ok, or the reason of the failure.", "result")
	probes      = desc("probes_total", "Health probes by result.", "result")
	saved       = desc("handshake_saved_seconds", "Estimate of the handshake time that "+
		"warm connections saved: warm acquires times the mean handshake.")
)

// ofPool are the labels of the series of a pool.
var ofPool = []string{"namespace", "pool", "type"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("connpool_"+name, help, slices.Concat(ofPool, labels), nil)
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{targets, connections, leases, pending, uses, dials, probes, saved} {
		out <- d
	}
	c.latencies.describe(out)
	c.Conditions.Describe(out)
}

// Collect implements prometheus.Collector. It reads one snapshot.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.Conditions.Collect(out)
	sums := sum(c.source.Snapshot())
	c.latencies.collect(out, sums)
	for key, total := range sums {
		total.emit(emitter{out: out, labels: []string{key.namespace, key.pool, key.kind}})
	}
}

// key identifies the series of a pool and a type of targets.
type key struct{ namespace, pool, kind string }

// totals are sums over the targets of a pool. Of the Stats, only numbers are added.
type totals struct {
	connpool.Stats

	health   map[poolset.HealthState]int
	failures map[driver.Reason]uint64
	saved    float64
}

func sum(snapshot []poolset.PoolObservation) map[key]*totals {
	sums := map[key]*totals{}
	for _, o := range snapshot {
		k := key{o.Pool.Namespace, o.Pool.Name, o.Type}
		if sums[k] == nil {
			sums[k] = &totals{health: map[poolset.HealthState]int{}, failures: map[driver.Reason]uint64{}}
		}
		sums[k].add(o)
	}
	return sums
}

func (t *totals) add(o poolset.PoolObservation) {
	if !o.Departed {
		t.health[o.Health]++
	}
	t.Idle += o.Idle
	t.InUse += o.InUse
	t.Dialing += o.Dialing
	t.Draining += o.Draining
	t.Leases += o.Leases
	t.Pending += o.Pending
	t.Count(&o.Stats)
	for reason, n := range o.DialFailures {
		t.failures[reason] += n
	}
	if o.Dials.Succeeded > 0 {
		t.saved += o.Dials.Time.Seconds() / float64(o.Dials.Succeeded) * float64(o.Acquired[connpool.Warm].Count)
	}
}

func (t *totals) emit(e emitter) {
	e.gauge(targets, float64(t.health[poolset.HealthUp]), "up")
	e.gauge(targets, float64(t.health[poolset.HealthDown]), "down")
	e.gauge(targets, float64(t.health[poolset.HealthUnknown]), "unknown")
	e.gauge(connections, float64(t.Idle), "idle")
	e.gauge(connections, float64(t.InUse), "in_use")
	e.gauge(connections, float64(t.Dialing), "dialing")
	e.gauge(connections, float64(t.Draining), "draining")
	e.gauge(leases, float64(t.Leases))
	e.gauge(pending, float64(t.Pending))
	e.counter(uses, float64(t.Uses))
	e.counter(dials, float64(t.Dials.Succeeded), "ok")
	for reason, n := range t.failures {
		e.counter(dials, float64(n), string(reason))
	}
	e.counter(probes, float64(t.Probes.Succeeded), "ok")
	e.counter(probes, float64(t.Probes.Failed), "failed")
	e.gauge(saved, t.saved)
}

// emitter sends the metrics of one pool.
type emitter struct {
	out    chan<- prometheus.Metric
	labels []string
}

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, slices.Concat(e.labels, labels)...)
}

func (e emitter) counter(d *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, slices.Concat(e.labels, labels)...)
}
