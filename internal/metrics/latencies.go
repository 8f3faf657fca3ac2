package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/reach/dialing"
)

// latencies are the histograms of all pools.
type latencies struct {
	acquires, handshakes *prometheus.HistogramVec
	commands, answers    *seldom
	// stages are those of the dials of all pools.
	stages *prometheus.HistogramVec
	// pools finds the *latency of a key without a lock.
	pools sync.Map
	// mu is held while the histograms of a key are made or dropped.
	mu sync.Mutex
}

// latency is the histograms of a pool and a type of targets.
type latency struct {
	acquires  [3]prometheus.Observer // by connpool.How
	handshake prometheus.Observer
}

var _ poolset.Meter = &latencies{}

// A warm acquire takes microseconds, one that waits for a dial as long as that. A dial
// takes milliseconds on a local network, and is given up after about a minute. What a use
// takes on its connection are some round trips; it has few buckets, because every pool has
// them.
var (
	acquireBuckets   = []float64{1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}
	useBuckets       = []float64{0.0025, 0.01, 0.05, 0.25, 1, 5}
	handshakeBuckets = []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
)

func newLatencies() *latencies {
	return &latencies{
		acquires: histograms("acquire_duration_seconds", "How long requests waited until they got a connection.",
			acquireBuckets, slices.Concat(ofPool, []string{"result"})...),
		handshakes: histograms("handshake_duration_seconds", "How long successful dials took.", handshakeBuckets, ofPool...),
		stages: histograms("dial_stage_duration_seconds", "How long each stage of successful dials took, of all pools.",
			handshakeBuckets, "type", "stage"),
		answers: newSeldom("proxy_duration_seconds",
			"How long it took from a proxied request to the headers of its answer, without the wait for a connection.", useBuckets),
		commands: newSeldom("command_overhead_seconds",
			"How long it took from a request to the start of its command on the target, without the wait for a connection.", useBuckets),
	}
}

// histograms returns native histograms, whose memory is bounded, with classic buckets
// beside them for a Prometheus that does not scrape native ones.
func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "connpool_" + name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

// Acquired implements poolset.Meter.
func (l *latencies) Acquired(pool poolset.Ref, kind string, how connpool.How, took time.Duration) {
	l.of(key{pool.Namespace, pool.Name, kind}).acquires[how].Observe(took.Seconds())
}

// Dialed implements poolset.Meter.
func (l *latencies) Dialed(pool poolset.Ref, kind string, took time.Duration, stages []dialing.Passage) {
	l.of(key{pool.Namespace, pool.Name, kind}).handshake.Observe(took.Seconds())
	for _, stage := range stages {
		l.stages.WithLabelValues(kind, stage.Word()).Observe(stage.To.Sub(stage.From).Seconds())
	}
}

// CommandStarted implements figures.Meter.
func (l *latencies) CommandStarted(pool poolset.Ref, kind string, took time.Duration) {
	l.commands.observe(key{pool.Namespace, pool.Name, kind}, took)
}

// Answered implements figures.Meter.
func (l *latencies) Answered(pool poolset.Ref, kind string, took time.Duration) {
	l.answers.observe(key{pool.Namespace, pool.Name, kind}, took)
}

func (l *latencies) of(k key) *latency {
	if found, ok := l.pools.Load(k); ok {
		return found.(*latency) //nolint:forcetypeassert // nothing else is in it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, ok := l.pools.Load(k); ok {
		return found.(*latency) //nolint:forcetypeassert // nothing else is in it
	}
	made := &latency{handshake: l.handshakes.WithLabelValues(k.namespace, k.pool, k.kind)}
	for how := range made.acquires {
		made.acquires[how] = l.acquires.WithLabelValues(k.namespace, k.pool, k.kind, connpool.How(how).String())
	}
	l.pools.Store(k, made)
	return made
}

func (l *latencies) describe(out chan<- *prometheus.Desc) {
	l.acquires.Describe(out)
	l.handshakes.Describe(out)
	l.commands.Describe(out)
	l.answers.Describe(out)
	l.stages.Describe(out)
}

// collect collects the histograms of the pools that are there, and drops the others.
func (l *latencies) collect(out chan<- prometheus.Metric, pools map[key]*totals) {
	l.pools.Range(func(k, _ any) bool {
		if gone := k.(key); pools[gone] == nil { //nolint:forcetypeassert // nothing else is in it
			l.forget(gone)
		}
		return true
	})
	for k := range pools {
		l.of(k)
	}
	l.acquires.Collect(out)
	l.handshakes.Collect(out)
	l.commands.collect(out, pools)
	l.answers.collect(out, pools)
	l.stages.Collect(out)
}

func (l *latencies) forget(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshakes.DeleteLabelValues(k.namespace, k.pool, k.kind)
	for how := range (latency{}).acquires {
		l.acquires.DeleteLabelValues(k.namespace, k.pool, k.kind, connpool.How(how).String())
	}
	l.pools.Delete(k)
}
