package metrics

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/reach/dialing"
)

var web = poolset.Ref{Namespace: "prod", Name: "web"}

// scraped returns a histogram as a scraper gets it that asks for the format.
func scraped(t *testing.T, c prometheus.Collector, format expfmt.Format, name string) *dto.Histogram {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	request := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	request.Header.Set("Accept", string(format))
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, request)
	decoder := expfmt.NewDecoder(answer.Body, expfmt.ResponseFormat(answer.Result().Header))
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); err != nil {
			t.Fatalf("no %s: %v", name, err)
		}
		if family.GetName() == name {
			return family.GetMetric()[0].GetHistogram()
		}
	}
}

func TestLatenciesAreNativeHistogramsWithClassicBucketsBeside(t *testing.T) {
	c := NewCollector(small()[:1])
	c.Dialed(web, "ssh", 30*time.Millisecond, nil)
	const name = "connpool_handshake_duration_seconds"
	native := scraped(t, c, expfmt.NewFormat(expfmt.TypeProtoDelim), name)
	if native.GetSampleCount() != 1 || len(native.GetPositiveSpan()) == 0 || len(native.GetBucket()) < len(handshakeBuckets) {
		t.Errorf("a scraper that reads protobuf gets %v", native)
	}
	classic := scraped(t, c, expfmt.NewFormat(expfmt.TypeTextPlain), name)
	if classic.GetSampleCount() != 1 || len(classic.GetBucket()) < len(handshakeBuckets) {
		t.Errorf("a scraper that reads text gets %v", classic)
	}
}

func TestLatenciesOfAPoolGoWithItAndNotWithATarget(t *testing.T) {
	both := small()
	c := NewCollector(both)
	c.Acquired(web, "ssh", connpool.Warm, time.Microsecond)
	c.Acquired(poolset.Ref{Namespace: "prod", Name: "never seen"}, "ssh", connpool.Warm, time.Microsecond)
	const name = "connpool_acquire_duration_seconds"
	if n := testutil.CollectAndCount(c, name); n != 6 {
		t.Errorf("%d series, want those of three results in two pools", n)
	}
	c.source = both[1:]
	if got := scraped(t, c, expfmt.NewFormat(expfmt.TypeTextPlain), name); testutil.CollectAndCount(c, name) != 6 {
		t.Errorf("a target has left and the pool has %v", got)
	}
	c.source = snapshot{}
	if n := testutil.CollectAndCount(c, name); n != 0 {
		t.Errorf("%d series of no pool", n)
	}
}

func TestAHistogramIsBoundedWhateverItObserves(t *testing.T) {
	c := NewCollector(small()[:1])
	for took := time.Nanosecond; took < 10*time.Hour; took += took/20 + 1 {
		c.Dialed(web, "ssh", took, nil)
	}
	got := scraped(t, c, expfmt.NewFormat(expfmt.TypeProtoDelim), "connpool_handshake_duration_seconds")
	if n := len(got.GetPositiveDelta()); n == 0 || n > 101 {
		t.Errorf("%d native buckets", n)
	}
}

// perUse are the histograms of uses, each with what observes one.
var perUse = map[string]func(*Collector, poolset.Ref, string, time.Duration){
	"connpool_command_overhead_seconds": (*Collector).CommandStarted,
	"connpool_proxy_duration_seconds":   (*Collector).Answered,
}

func TestTimesOfUsesAreNativeHistogramsWithClassicBucketsBesideAndGoWithTheirPool(t *testing.T) {
	for name, observe := range perUse {
		t.Run(name, func(t *testing.T) {
			c := NewCollector(small())
			if n := testutil.CollectAndCount(c, name); n != 0 {
				t.Errorf("%d series before the first use", n)
			}
			observe(c, web, "ssh", 30*time.Millisecond)
			observe(c, poolset.Ref{Namespace: "prod", Name: "never seen"}, "ssh", time.Second)
			native := scraped(t, c, expfmt.NewFormat(expfmt.TypeProtoDelim), name)
			if native.GetSampleCount() != 1 || len(native.GetPositiveSpan()) == 0 || len(native.GetBucket()) < len(useBuckets) {
				t.Errorf("a scraper that reads protobuf gets %v", native)
			}
			observe(c, web, "ssh", 30*time.Millisecond)
			if got := scraped(t, c, expfmt.NewFormat(expfmt.TypeTextPlain), name); got.GetSampleCount() != 2 {
				t.Errorf("a second scrape gets %v", got)
			}
			if n := testutil.CollectAndCount(c, name); n != 1 {
				t.Errorf("%d series, want that of the pool that is there", n)
			}
			c.source = snapshot{}
			if n := testutil.CollectAndCount(c, name); n != 0 {
				t.Errorf("%d series of no pool", n)
			}
			c.source = small()
			observe(c, web, "ssh", time.Second)
			if got := scraped(t, c, expfmt.NewFormat(expfmt.TypeTextPlain), name); got.GetSampleCount() != 1 {
				t.Errorf("a pool that is made again has %v", got)
			}
		})
	}
}

func TestStagesOfDialsHaveTheirTypeAndNoPool(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	stages := []dialing.Passage{
		{Stage: dialing.StageTurn, From: began, To: began},
		{Stage: driver.StageKeyExchange, From: began, To: began.Add(30 * time.Millisecond)},
	}
	var many snapshot
	for i := range 100 {
		many = append(many, observation(fmt.Sprint("pool-", i), "ssh", poolset.HealthUp, connpool.Stats{}))
	}
	c := NewCollector(many)
	for _, o := range many {
		c.Dialed(o.Pool, o.Type, 30*time.Millisecond, stages)
	}
	const name = "connpool_dial_stage_duration_seconds"
	if n := testutil.CollectAndCount(c, name); n != 2 {
		t.Errorf("%d series for two stages in %d pools", n, len(many))
	}
	got := scraped(t, c, expfmt.NewFormat(expfmt.TypeProtoDelim), name)
	if got.GetSampleCount() != 100 || math.Abs(got.GetSampleSum()-3) > 1e-6 || len(got.GetPositiveSpan()) == 0 || len(got.GetBucket()) == 0 {
		t.Errorf("key exchanges are %v", got)
	}
}

func BenchmarkDialed(b *testing.B) {
	c := NewCollector(small()[:1])
	stages := make([]dialing.Passage, 6)
	for i := range stages {
		stages[i].Stage = driver.StageKeyExchange
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Dialed(web, "ssh", 30*time.Millisecond, stages)
	}
}

func BenchmarkUses(b *testing.B) {
	for name, observe := range perUse {
		b.Run(name, func(b *testing.B) {
			c := NewCollector(small()[:1])
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					observe(c, web, "ssh", 20*time.Millisecond)
				}
			})
		})
	}
}

func BenchmarkAcquired(b *testing.B) {
	c := NewCollector(small()[:1])
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Acquired(web, "ssh", connpool.Warm, 20*time.Microsecond)
		}
	})
}

func BenchmarkScrape(b *testing.B) {
	for _, size := range []struct{ targets, pools int }{{1000, 10}, {10_000, 10}, {10_000, 1000}} {
		b.Run(fmt.Sprintf("targets=%d/pools=%d", size.targets, size.pools), func(b *testing.B) {
			var all snapshot
			for i := range size.targets {
				all = append(all, observation(fmt.Sprintf("pool-%d", i%size.pools), "ssh", poolset.HealthUp, connpool.Stats{Idle: 2}))
			}
			c := NewCollector(all)
			for _, o := range all {
				c.Acquired(o.Pool, "ssh", connpool.Warm, 20*time.Microsecond)
				c.Dialed(o.Pool, "ssh", 80*time.Millisecond, nil)
				for _, observe := range perUse {
					observe(c, o.Pool, "ssh", 20*time.Millisecond)
				}
			}
			registry := prometheus.NewRegistry()
			registry.MustRegister(c)
			handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})
			for b.Loop() {
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
				b.ReportMetric(float64(answer.Body.Len()), "bytes")
			}
		})
	}
}
