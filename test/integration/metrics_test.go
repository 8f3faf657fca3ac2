package integration

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/client"
)

// protobuf asks for the format as a Prometheus that scrapes native histograms.
type protobuf struct{ http.RoundTripper }

func (p protobuf) RoundTrip(request *http.Request) (*http.Response, error) {
	request.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	return p.RoundTripper.RoundTrip(request)
}

// scraper returns the configuration of a Prometheus that may scrape the metrics.
func scraper(t *testing.T) *rest.Config {
	t.Helper()
	account := account(t, namespace(t), "prometheus")
	allowMetrics(t, account)
	reader := as(t, rest.AnonymousClientConfig(env.config), account)
	reader.Wrap(func(next http.RoundTripper) http.RoundTripper { return protobuf{next} })
	eventually(t, 10*time.Second, "the metrics are readable", func() (bool, string) {
		status, body := scrape(t, reader)
		return status == http.StatusOK && familiesIn(body)["connpool_leader"] != nil, http.StatusText(status)
	})
	return reader
}

func TestAScrapeHasNativeHistogramsAndTellsOfTheReplica(t *testing.T) {
	p := warm(t, startSSHD(t))
	_, body := scrape(t, scraper(t))
	families := familiesIn(body)
	handshake := ofPool(families["connpool_handshake_duration_seconds"], p.pool.Namespace).GetHistogram()
	if handshake.GetSampleCount() == 0 || len(handshake.GetPositiveSpan()) == 0 || len(handshake.GetBucket()) == 0 {
		t.Errorf("the handshakes are not native with classic buckets beside: %v", handshake)
	}
	stages := map[string]uint64{}
	for _, metric := range families["connpool_dial_stage_duration_seconds"].GetMetric() {
		labels := map[string]string{}
		for _, label := range metric.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		if labels["type"] == "ssh" && len(labels) == 2 && len(metric.GetHistogram().GetPositiveSpan()) > 0 {
			stages[labels["stage"]] = metric.GetHistogram().GetSampleCount()
		}
	}
	for _, stage := range []string{"turn", "connect", "banner", "key_exchange", "host_key", "authentication", "session"} {
		if stages[stage] == 0 {
			t.Errorf("no dial has the stage %s; there are %v", stage, stages)
		}
	}
	if unowned := families["connpool_targets_unowned"].GetMetric(); len(unowned) != 1 || unowned[0].GetGauge().GetValue() != 0 {
		t.Errorf("targets without an owner are %v", unowned)
	}
	for name, least := range map[string]float64{
		"connpool_build_info": 1, "connpool_leader": 1,
		"connpool_certificate_expiry_timestamp_seconds": float64(time.Now().Unix()),
	} {
		if metrics := families[name].GetMetric(); len(metrics) != 1 || metrics[0].GetGauge().GetValue() < least {
			t.Errorf("%s is %v, want at least %v", name, metrics, least)
		}
	}
}

func TestAScrapeHasTheFiguresOfUses(t *testing.T) {
	p, direct := usable(t)
	live, err := client.New(direct)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(live.CloseIdleConnections)
	pool := live.Pool(p.pool.Namespace, p.pool.Name)
	slow := client.Command{Shell: "sleep 1"}
	if _, err := pool.Exec(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Stream(t.Context(), slow, client.Streams{Stdout: io.Discard}); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), client.Command{Target: "no-such-target", Shell: "true"}); err == nil {
		t.Error("a command ran on a target that the pool does not have")
	}
	_, body := scrape(t, scraper(t))
	overhead := ofPool(familiesIn(body)["connpool_command_overhead_seconds"], p.pool.Namespace).GetHistogram()
	if overhead.GetSampleCount() != 3 || overhead.GetSampleSum() > 1.9 || len(overhead.GetPositiveSpan()) == 0 {
		t.Errorf("a quick command and two that take a second have the overhead %v", overhead)
	}
	failed := ofPool(familiesIn(body)["connpool_uses_failed_total"], p.pool.Namespace)
	if failed.GetCounter().GetValue() != 1 || !strings.Contains(failed.String(), "NotFound") {
		t.Errorf("one failed use is counted as %v", failed)
	}
}

func familiesIn(body string) map[string]*dto.MetricFamily {
	families := map[string]*dto.MetricFamily{}
	decoder := expfmt.NewDecoder(strings.NewReader(body), expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		family := new(dto.MetricFamily)
		if decoder.Decode(family) != nil {
			return families
		}
		families[family.GetName()] = family
	}
}

// ofPool returns the metric of the only pool in the namespace; nil if there is none.
func ofPool(family *dto.MetricFamily, namespace string) *dto.Metric {
	for _, metric := range family.GetMetric() {
		for _, label := range metric.GetLabel() {
			if label.GetName() == "namespace" && label.GetValue() == namespace {
				return metric
			}
		}
	}
	return nil
}
