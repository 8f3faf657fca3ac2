// Package metrics exposes the live pools to Prometheus. It reads one snapshot at each
// scrape, so nothing is counted twice and no series outlives its pool.
//
// Labels are bounded: namespace, pool, type and one label with a fixed set of
// values, never a user, a command or a target. Counters are sums over the targets of
// a pool, including targets that have left it. A pool without targets has no series.
// When it gets a target again, its counters start at 0, as after a restart.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// Source provides the snapshot.
type Source interface {
	Snapshot() []poolset.PoolObservation
}

// Collector collects the metrics of the live pools.
type Collector struct{ source Source }

// NewCollector returns a collector that reads source.
func NewCollector(source Source) *Collector { return &Collector{source: source} }

var _ prometheus.Collector = &Collector{}

var (
	targets     = desc("targets", "Targets of the pool by health.", "health")
	connections = desc("connections", "Connections by state. Warm connections are those in the states idle and in_use.", "state")
	leases      = desc("leases", "Uses of connections that run now.")
	pending     = desc("acquires_pending", "Requests that wait for a connection now.")
	uses        = desc("uses_total", "Uses of connections that have ended.")
	acquires    = desc("acquire_duration_seconds", "How long requests waited until they got a connection.", "result")
	dials       = desc("dials_total", "Dials by result: ok, or the reason of the failure.", "result")
	handshakes  = desc("handshake_duration_seconds", "How long successful dials took.")
	probes      = desc("probes_total", "Health probes by result.", "result")
	saved       = desc("handshake_saved_seconds", "Estimate of the handshake time that "+
		"warm connections saved: warm acquires times the mean handshake.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("connpool_"+name, help, append([]string{"namespace", "pool", "type"}, labels...), nil)
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{targets, connections, leases, pending, uses, acquires, dials, handshakes, probes, saved} {
		out <- d
	}
}

// Collect implements prometheus.Collector. It reads one snapshot.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	for key, total := range sum(c.source.Snapshot()) {
		e := emitter{out: out, labels: []string{key.namespace, key.pool, key.kind}}
		total.emit(e)
	}
}

// key identifies the series of a pool and a type of targets.
type key struct{ namespace, pool, kind string }

// totals are sums over the targets of a pool.
type totals struct {
	up, down, unknown              int
	idle, inUse, dialing, draining int
	leases, pending                int
	uses                           int64
	acquired                       [3]connpool.AcquireCount
	dials                          connpool.DialCount
	failures                       map[driver.Reason]uint64
	probes                         connpool.ProbeCount
	saved                          float64
}

func sum(snapshot []poolset.PoolObservation) map[key]*totals {
	sums := map[key]*totals{}
	for _, o := range snapshot {
		k := key{o.Pool.Namespace, o.Pool.Name, o.Type}
		if sums[k] == nil {
			sums[k] = &totals{failures: map[driver.Reason]uint64{}}
		}
		sums[k].add(o)
	}
	return sums
}

func (t *totals) add(o poolset.PoolObservation) {
	if !o.Departed {
		t.addHealth(o.Health)
	}
	t.idle += o.Idle
	t.inUse += o.InUse
	t.dialing += o.Dialing
	t.draining += o.Draining
	t.leases += o.Leases
	t.pending += o.Pending
	t.uses += o.Uses
	for how := range o.Acquired {
		t.acquired[how].Count += o.Acquired[how].Count
		t.acquired[how].Wait += o.Acquired[how].Wait
	}
	t.dials.Succeeded += o.Dials.Succeeded
	t.dials.Time += o.Dials.Time
	for reason, n := range o.DialFailures {
		t.failures[reason] += n
	}
	t.probes.Succeeded += o.Probes.Succeeded
	t.probes.Failed += o.Probes.Failed
	if o.Dials.Succeeded > 0 {
		t.saved += o.Dials.Time.Seconds() / float64(o.Dials.Succeeded) * float64(o.Acquired[connpool.Warm].Count)
	}
}

func (t *totals) addHealth(state poolset.HealthState) {
	switch state {
	case poolset.HealthUp:
		t.up++
	case poolset.HealthDown:
		t.down++
	default:
		t.unknown++
	}
}

func (t *totals) emit(e emitter) {
	e.gauge(targets, float64(t.up), "up")
	e.gauge(targets, float64(t.down), "down")
	e.gauge(targets, float64(t.unknown), "unknown")
	e.gauge(connections, float64(t.idle), "idle")
	e.gauge(connections, float64(t.inUse), "in_use")
	e.gauge(connections, float64(t.dialing), "dialing")
	e.gauge(connections, float64(t.draining), "draining")
	e.gauge(leases, float64(t.leases))
	e.gauge(pending, float64(t.pending))
	e.counter(uses, float64(t.uses))
	for how, acquired := range t.acquired {
		e.summary(acquires, acquired.Count, acquired.Wait.Seconds(), connpool.How(how).String())
	}
	e.counter(dials, float64(t.dials.Succeeded), "ok")
	for reason, n := range t.failures {
		e.counter(dials, float64(n), string(reason))
	}
	e.summary(handshakes, t.dials.Succeeded, t.dials.Time.Seconds())
	e.counter(probes, float64(t.probes.Succeeded), "ok")
	e.counter(probes, float64(t.probes.Failed), "failed")
	e.gauge(saved, t.saved)
}

// emitter sends the metrics of one pool.
type emitter struct {
	out    chan<- prometheus.Metric
	labels []string
}

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, e.with(labels)...)
}

func (e emitter) counter(d *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, e.with(labels)...)
}

func (e emitter) summary(d *prometheus.Desc, count uint64, sum float64, labels ...string) {
	e.out <- prometheus.MustNewConstSummary(d, count, sum, nil, e.with(labels)...)
}

func (e emitter) with(labels []string) []string {
	return append(append([]string{}, e.labels...), labels...)
}
