package metrics

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// snapshot is a source that always returns itself.
type snapshot []poolset.PoolObservation

func (s snapshot) Snapshot() []poolset.PoolObservation { return s }

// observation is one target's share of the pool.
func observation(pool, kind string, health poolset.HealthState, stats connpool.Stats) poolset.PoolObservation {
	return poolset.PoolObservation{
		Pool: poolset.Ref{UID: pool + "-uid", Namespace: "prod", Name: pool},
		Type: kind, Stats: stats, Health: health,
	}
}

// small returns two targets of one pool, of which one fails, a target that has left
// that pool, and a pool of another protocol that has done nothing.
func small() snapshot {
	up := observation("web", "ssh", poolset.HealthUp, connpool.Stats{
		Idle: 2, InUse: 1, Dialing: 1, Draining: 1, Leases: 3, Pending: 2, Uses: 100,
		Acquired: [3]connpool.AcquireCount{{Count: 90}, {Count: 8, Wait: 2 * time.Second}, {Count: 2, Wait: time.Second}},
		Dials:    connpool.DialCount{Succeeded: 4, Failed: 9, Time: 2 * time.Second},
		Probes:   connpool.ProbeCount{Succeeded: 50, Failed: 1},
	})
	down := observation("web", "ssh", poolset.HealthDown, connpool.Stats{Dials: connpool.DialCount{Failed: 3}})
	down.DialFailures = map[driver.Reason]uint64{driver.Unreachable: 2, driver.Timeout: 1}
	left := observation("web", "ssh", poolset.HealthUp, connpool.Stats{Uses: 11, Draining: 1})
	left.Departed = true
	return snapshot{up, down, left, observation("build", "docker", poolset.HealthUnknown, connpool.Stats{})}
}

const golden = "testdata/metrics.txt"

func TestTheExpositionIsTheGoldenOne(t *testing.T) {
	file, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := testutil.CollectAndCompare(NewCollector(small()), file); err != nil {
		t.Errorf("%v\nIf the change is intended, change %s.", err, golden)
	}
}

func TestTheMetricsKeepPrometheusRules(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(small()))
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestNoSeriesOutlivesItsPool(t *testing.T) {
	if n := testutil.CollectAndCount(NewCollector(snapshot{})); n != 0 {
		t.Errorf("%d series of nothing, want none", n)
	}
}

func TestLabelsAreBoundedWhateverTheNumberOfTargets(t *testing.T) {
	var many snapshot
	for range 1000 {
		many = append(many, small()...)
	}
	if few, lots := testutil.CollectAndCount(NewCollector(small())), testutil.CollectAndCount(NewCollector(many)); few != lots {
		t.Errorf("%d series for 3 targets, %d for 3,000", few, lots)
	}
}

func TestWhatWarmConnectionsSavedIsTheMeanHandshakeForEachWarmAcquire(t *testing.T) {
	const want = "connpool_handshake_saved_seconds{namespace=\"prod\",pool=\"web\",type=\"ssh\"} 45\n" // 90 * 2 s / 4
	metadata := "# HELP connpool_handshake_saved_seconds " + helpOfSaved + "\n# TYPE connpool_handshake_saved_seconds gauge\n"
	if err := testutil.CollectAndCompare(NewCollector(small()[:3]), strings.NewReader(metadata+want), "connpool_handshake_saved_seconds"); err != nil {
		t.Error(err)
	}
}

const helpOfSaved = "Estimate of the handshake time that warm connections saved: warm acquires times the mean handshake."

// failed returns the conditions of a pool with three targets, of which two fail.
func failed() *Conditions {
	c := new(Conditions)
	c.Set("web-uid", "prod", "web",
		[]Condition{{"Ready", "True", "Warm"}, {"Degraded", "True", "TargetsFailing"}},
		map[Failing]int{
			{Kind: "ssh", Reason: "CredentialsInvalid", Stalled: true, Serving: true}: 2,
			{Kind: "ssh", Reason: "Timeout"}:                                          1,
		})
	return c
}

func TestConditionsOfPoolsAndFailingTargetsAreMetrics(t *testing.T) {
	const want = `
# HELP connpool_pool_condition Conditions of the pool, each 1 while it is there with this status and reason.
# TYPE connpool_pool_condition gauge
connpool_pool_condition{condition="Degraded",namespace="prod",pool="web",reason="TargetsFailing",status="True"} 1
connpool_pool_condition{condition="Ready",namespace="prod",pool="web",reason="Warm",status="True"} 1
# HELP connpool_targets_failing Targets of the pool that fail, also those that still serve.
# TYPE connpool_targets_failing gauge
connpool_targets_failing{namespace="prod",pool="web",reason="CredentialsInvalid",serving="true",stalled="true",type="ssh"} 2
connpool_targets_failing{namespace="prod",pool="web",reason="Timeout",serving="false",stalled="false",type="ssh"} 1
`
	if err := testutil.CollectAndCompare(failed(), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(failed())
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("problems %v, %v", problems, err)
	}
}

func TestConditionsOfAPoolGoWithIt(t *testing.T) {
	c := failed()
	c.Set("web-uid", "prod", "web", []Condition{{"Ready", "True", "Warm"}}, nil)
	if n := testutil.CollectAndCount(c); n != 1 {
		t.Errorf("%d series of a pool where all is well, want 1", n)
	}
	c.Forget("web-uid")
	if n := testutil.CollectAndCount(c); n != 0 {
		t.Errorf("%d series of a pool that is gone, want none", n)
	}
}

func TestFailedUsesAreCountedForDeclaredPoolsOnlyAndGoWithThem(t *testing.T) {
	c := failed()
	c.UseFailed(web, "ssh", "Unreachable", "Unknown")
	c.UseFailed(web, "ssh", "Unreachable", "Unknown")
	c.UseFailed(web, "", "BadRequest", "NotStarted")
	c.UseFailed(poolset.Ref{Namespace: "prod", Name: "made up"}, "", "BadRequest", "NotStarted")
	const name = "connpool_uses_failed_total"
	const want = `
# HELP connpool_uses_failed_total Uses that the operator refused or could not carry out, by reason and outcome. The exit code of a command does not matter.
# TYPE connpool_uses_failed_total counter
connpool_uses_failed_total{namespace="prod",outcome="NotStarted",pool="web",reason="BadRequest",type=""} 1
connpool_uses_failed_total{namespace="prod",outcome="Unknown",pool="web",reason="Unreachable",type="ssh"} 2
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), name); err != nil {
		t.Error(err)
	}
	c.Set("web-uid", "prod", "web", nil, nil)
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), name); err != nil {
		t.Errorf("after the pool was reported again: %v", err)
	}
	c.Set("newer-uid", "prod", "web", nil, nil)
	c.Forget("web-uid")
	if n := testutil.CollectAndCount(c, name); n != 0 {
		t.Errorf("%d series of a pool that was deleted and made again", n)
	}
	c.UseFailed(web, "ssh", "Unreachable", "Unknown")
	if n := testutil.CollectAndCount(c, name); n != 1 {
		t.Errorf("%d series, want that of the new pool", n)
	}
}

func BenchmarkUseFailed(b *testing.B) {
	c := failed()
	b.ReportAllocs()
	for b.Loop() {
		c.UseFailed(web, "ssh", "Unreachable", "Unknown")
	}
}

func TestUnownedTargetsAreOnlyKnownToTheLeader(t *testing.T) {
	if n := testutil.CollectAndCount(Unowned(func(context.Context) (int, bool) { return 0, false })); n != 0 {
		t.Errorf("%d series of a replica that does not lead", n)
	}
	three := Unowned(func(context.Context) (int, bool) { return 3, true })
	if got := testutil.ToFloat64(three); got != 3 {
		t.Errorf("%v unowned, want 3", got)
	}
}
