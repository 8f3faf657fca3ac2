// Package monitoring tries what config has for monitoring: the alert rules with
// Prometheus' own promtool, and with a real Prometheus that scrapes a real operator
// while real things break.
package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// rules are the manifest's, as a plain Prometheus reads them.
type rules struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	} `json:"groups"`
}

type rule struct {
	Alert       string            `json:"alert,omitempty"`
	Record      string            `json:"record,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func readRules(t *testing.T) rules {
	t.Helper()
	text, err := os.ReadFile("../../config/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Spec rules `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Spec
}

func (r rules) alerts() []rule {
	var found []rule
	for _, group := range r.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				found = append(found, rule)
			}
		}
	}
	return found
}

// ruleFile writes the rules and promtool's cases to a folder, which it returns.
func ruleFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := yaml.Marshal(readRules(t))
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile("testdata/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"rules.yaml": text, "cases.yaml": cases} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func promtool(t *testing.T, dir string, arguments ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "promtool", arguments...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v (it is in Debian's package prometheus)\n%s", strings.Join(arguments, " "), err, output)
	}
}

func TestPrometheusAcceptsTheRules(t *testing.T) {
	promtool(t, ruleFile(t), "check", "rules", "rules.yaml")
}

func TestPrometheusAcceptsTheScrapeJobOfTheHowTo(t *testing.T) {
	_, rest, _ := strings.Cut(read(t, "../../docs/how-to/monitor.md"), "```yaml\nscrape_configs:\n")
	text, _, _ := strings.Cut(rest, "```")
	var config struct {
		Jobs []map[string]any `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte("scrape_configs:\n"+text), &config); err != nil || len(config.Jobs) != 1 {
		t.Fatalf("docs/how-to/monitor.md has %d scrape jobs, %v", len(config.Jobs), err)
	}
	// Debian's Prometheus is built without it.
	delete(config.Jobs[0], "kubernetes_sd_configs")
	without, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), without, 0o600); err != nil {
		t.Fatal(err)
	}
	// Only the syntax, because the files that it names are in a pod.
	promtool(t, dir, "check", "config", "--syntax-only", "prometheus.yaml")
}

func TestEachDashboardIsInTheHowTo(t *testing.T) {
	document := read(t, "../../docs/how-to/monitor.md")
	for file := range dashboards(t) {
		if !strings.Contains(document, "| `"+file+"` |") {
			t.Errorf("docs/how-to/monitor.md has no row for %s", file)
		}
	}
}

func TestEachAlertFiresForItsSymptomAndForNoOther(t *testing.T) {
	promtool(t, ruleFile(t), "test", "rules", "cases.yaml")
	cases, err := os.ReadFile("testdata/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range readRules(t).alerts() {
		if !strings.Contains(string(cases), `alertname="`+alert.Alert+`"`) {
			t.Errorf("no case makes %s fire", alert.Alert)
		}
	}
}

func TestEachAlertSaysHowBadItIsAndIsInTheHowTo(t *testing.T) {
	document, err := os.ReadFile("../../docs/how-to/monitor.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := readRules(t).alerts()
	if len(alerts) == 0 {
		t.Fatal("no alerts")
	}
	for _, alert := range alerts {
		if severity := alert.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q", alert.Alert, severity)
		}
		if alert.For == "" || alert.Annotations["summary"] == "" || alert.Annotations["description"] == "" {
			t.Errorf("%s lacks for, summary or description", alert.Alert)
		}
		if row := "| `" + alert.Alert + "` | " + alert.Labels["severity"] + " |"; !strings.Contains(string(document), row) {
			t.Errorf("docs/how-to/monitor.md has no row that begins %s", row)
		}
	}
}
