package monitoring

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/test/controlplane/process"
)

// configuration is that of a Prometheus which scrapes the operator, with the name, the
// authority and the token that docs/how-to/monitor.md says, and kube-apiserver.
const configuration = `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
scrape_configs:
- job_name: connpool-metrics
  scheme: https
  honor_labels: true
  authorization: {credentials_file: token}
  tls_config: {ca_file: %[1]s, server_name: %[2]s}
  static_configs: [{targets: ["%[3]s"]}]
- job_name: kube-apiserver
  scheme: https
  authorization: {credentials_file: token}
  tls_config: {ca_file: %[4]s}
  static_configs: [{targets: ["%[5]s"]}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: aggregator_unavailable_apiservice, action: keep}
`

// prometheus is a running one.
type prometheus struct{ url string }

// scrape starts a Prometheus that scrapes the operator and evaluates the rules.
func (w *world) scrape(t *testing.T, rules rules, flags ...string) *prometheus {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	text, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	apiserver := strings.TrimPrefix(w.plane.Config.Host, "https://")
	for name, content := range map[string]string{
		"prometheus.yaml": fmt.Sprintf(configuration, "ca.crt", metricsName, w.metrics, w.plane.AuthorityFile(), apiserver),
		"rules.yaml":      string(text), "ca.crt": string(w.authority.Certificate), "token": w.token,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	started, err := process.Start(process.Command{Name: "prometheus", Path: "prometheus", Dir: dir, Args: append([]string{
		"--config.file=" + filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + address, "--log.level=warn",
	}, flags...)})
	if err != nil {
		t.Fatalf("%v (it is in Debian's package prometheus)", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of Prometheus' log:\n%s", started.LastLines(10))
		}
		started.Stop(0)
	})
	p := &prometheus{url: "http://" + address}
	eventually(t, 30*time.Second, "Prometheus scrapes the operator", func() (bool, string) {
		if err := started.Err(); err != nil {
			t.Fatal(err)
		}
		var targets any
		found, err := p.query(`up{job="connpool-metrics"} == 1`)
		_ = p.get("/api/v1/targets", url.Values{"state": {"active"}}, &targets)
		return err == nil && len(found) == 1, fmt.Sprint(err, targets)
	})
	return p
}

// get asks Prometheus's API and reads the data of its answer.
func (p *prometheus) get(path string, parameters url.Values, data any) error {
	response, err := http.Get(p.url + path + "?" + parameters.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

// series is one result of a query.
type series struct {
	Metric map[string]string `json:"metric"`
}

func (p *prometheus) query(expression string) ([]series, error) {
	var data struct{ Result []series }
	err := p.get("/api/v1/query", url.Values{"query": {expression}}, &data)
	return data.Result, err
}

// alert is a pending or firing one.
type alert struct {
	Labels map[string]string `json:"labels"`
	State  string            `json:"state"`
}

func (p *prometheus) alerts(t *testing.T) []alert {
	t.Helper()
	var data struct{ Alerts []alert }
	if err := p.get("/api/v1/alerts", nil, &data); err != nil {
		t.Fatal(err)
	}
	return data.Alerts
}

// settle waits until Prometheus has scraped everything and then evaluated all rules.
func (p *prometheus) settle(t *testing.T) {
	t.Helper()
	begin := time.Now()
	for _, path := range []string{"/api/v1/targets", "/api/v1/rules"} {
		eventually(t, 30*time.Second, "Prometheus scrapes and evaluates", func() (bool, string) {
			var data struct {
				ActiveTargets []struct{ LastScrape time.Time }
				Groups        []struct{ LastEvaluation time.Time }
			}
			if err := p.get(path, nil, &data); err != nil {
				return false, err.Error()
			}
			oldest := time.Now()
			for _, target := range data.ActiveTargets {
				oldest = earlier(oldest, target.LastScrape)
			}
			for _, group := range data.Groups {
				oldest = earlier(oldest, group.LastEvaluation)
			}
			return oldest.After(begin), oldest.String()
		})
		begin = time.Now()
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
