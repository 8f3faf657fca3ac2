package monitoring

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const runbookURL = "https://github.com/connpool/connpool/blob/main/docs/runbooks/"

// metricName finds metrics of the operator and those of the parts around it.
var metricName = regexp.MustCompile(`\b(connpool|aggregator|apiserver|go|process|controller_runtime|workqueue|rest_client)_[a-z0-9_]+\b`)

// foreignMetrics are made by others: kube-apiserver and controller-runtime.
var foreignMetrics = map[string]bool{
	"aggregator_unavailable_apiservice":         true,
	"controller_runtime_reconcile_errors_total": true,
	"workqueue_depth":                           true,
	"rest_client_requests_total":                true,
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func runbooks(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestEachAlertHasItsRunbookAndEachRunbookItsAlert(t *testing.T) {
	index := read(t, "../../docs/runbooks/README.md")
	alerts := map[string]bool{"README": true}
	for _, alert := range readRules(t).alerts() {
		alerts[alert.Alert] = true
		page := alert.Alert + ".md"
		if got := alert.Annotations["runbook_url"]; got != runbookURL+page {
			t.Errorf("%s has the runbook_url %q, want %q", alert.Alert, got, runbookURL+page)
		}
		if !strings.Contains(read(t, "../../docs/runbooks/"+page), "# "+alert.Alert+"\n\nSeverity: "+alert.Labels["severity"]+".\n") {
			t.Errorf("%s does not begin with the alert and its severity, %s", page, alert.Labels["severity"])
		}
		if row := "| [" + alert.Alert + "](" + page + ") | " + alert.Labels["severity"] + " |"; !strings.Contains(index, row) {
			t.Errorf("docs/runbooks/README.md has no row that begins %s", row)
		}
	}
	for _, path := range runbooks(t) {
		if name := strings.TrimSuffix(filepath.Base(path), ".md"); !alerts[name] {
			t.Errorf("%s is for no alert", path)
		}
	}
}

func TestEachMetricThatRulesAndDocumentsNameIsInTheReference(t *testing.T) {
	known := map[string]bool{}
	for _, name := range metricName.FindAllString(read(t, "../../docs/reference/metrics.md"), -1) {
		known[name] = true
	}
	for _, rule := range readRules(t).Groups[0].Rules {
		_, name, _ := strings.Cut(rule.Record, ":")
		known[strings.Split(name, ":")[0]] = true
	}
	documents := append(runbooks(t), "../../config/prometheus/rules.yaml", "../../docs/how-to/monitor.md")
	for _, path := range documents {
		for _, name := range metricName.FindAllString(read(t, path), -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count"), "_bucket")
			if !known[name] && !known[base] && !foreignMetrics[name] {
				t.Errorf("%s names the metric %s, which docs/reference/metrics.md does not", path, name)
			}
		}
	}
}
