package monitoring

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dashboard is what the tests read of one of config/grafana.
type dashboard struct {
	UID, Title string
	Templating struct{ List []variable }
	Panels     []panel
}

type variable struct {
	Name, Type string
	Datasource datasource
	Query      json.RawMessage
}

type datasource struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               datasource
	Links                    []struct{ URL string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID, Expr string
		Instant     bool
	}
}

// theDatasource is the variable that says which Prometheus a panel asks.
var theDatasource = datasource{"prometheus", "${datasource}"}

// dashboards returns those of config/grafana by the names of their files.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(checkout, "config", "grafana", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d dashboards, %v", len(paths), err)
	}
	found := map[string]dashboard{}
	for _, path := range paths {
		var one dashboard
		if err := json.Unmarshal([]byte(read(t, path)), &one); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		found[filepath.Base(path)] = one
	}
	return found
}

func TestDashboardsCanBeImportedSideBySideAndExplainThemselves(t *testing.T) {
	uids := map[string]string{}
	for file, d := range dashboards(t) {
		if other := uids[d.UID]; d.UID == "" || other != "" {
			t.Errorf("%s and %s have the uid %q", file, other, d.UID)
		}
		uids[d.UID] = file
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: %q has the id %d, which is none or another panel's", file, p.Title, p.ID)
			}
			ids[p.ID] = true
			if p.Targets != nil && (p.Description == "" || p.Datasource != theDatasource || p.FieldConfig.Defaults.Unit == "") {
				t.Errorf("%s: %q lacks a description, a unit or the datasource %v", file, p.Title, theDatasource)
			}
			for _, link := range p.Links {
				page, isRunbook := strings.CutPrefix(link.URL, runbookURL)
				if isRunbook && !slices.Contains(runbooks(t), "../../docs/runbooks/"+page) {
					t.Errorf("%s: %q links to %s, which does not exist", file, p.Title, link.URL)
				}
			}
		}
	}
}

func TestEachPanelHasDataAndEachMetricExists(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "512MiB") // of the operator
	begin := time.Now()
	w := newWorld(t)
	prometheuses := map[string]*prometheus{
		"classic histograms": w.scrape(t, soon(readRules(t))),
		"native histograms":  w.scrape(t, soon(readRules(t)), "--enable-feature=native-histograms"),
	}
	w.useEverything(t)
	names := map[string]bool{}
	for kind, p := range prometheuses {
		for file, d := range dashboards(t) {
			t.Run(file+" with "+kind, func(t *testing.T) { hasData(t, p, d, begin) })
		}
		maps.Copy(names, p.names(t))
	}
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				for _, name := range metricName.FindAllString(target.Expr, -1) {
					if !names[name] {
						t.Errorf("%s: %q asks for %s, which does not exist", file, p.Title, name)
					}
				}
			}
		}
	}
}

// hasData fails for each query of the dashboard that has no data, and for each variable
// without values.
func hasData(t *testing.T, p *prometheus, d dashboard, since time.Time) {
	t.Helper()
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		if v.Datasource != theDatasource {
			t.Errorf("the variable %s asks %v", v.Name, v.Datasource)
		}
		eventually(t, 20*time.Second, "the variable "+v.Name+" has values", func() (bool, string) {
			values, err := p.values(string(v.Query))
			return len(values) > 0, fmt.Sprint(string(v.Query), err)
		})
	}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			expression := withVariables(target.Expr)
			eventually(t, 20*time.Second, fmt.Sprintf("%q has data for %s", panel.Title, expression), func() (bool, string) {
				points, err := p.points(expression, since)
				return points > 0, fmt.Sprint(err)
			})
		}
	}
}

// withVariables does what Grafana does with variables whose value is All.
func withVariables(expression string) string {
	return strings.NewReplacer("$__rate_interval", "10s", "$namespace", ".*", "$pool", ".*", "$job", ".*").Replace(expression)
}

// points counts the values of a query since a time that are numbers.
func (p *prometheus) points(expression string, since time.Time) (int, error) {
	var data struct {
		Result []struct{ Values [][2]any }
	}
	seconds := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	err := p.get("/api/v1/query_range", url.Values{
		"query": {expression}, "start": {seconds(since)}, "end": {seconds(time.Now())}, "step": {"1"},
	}, &data)
	points := 0
	for _, s := range data.Result {
		for _, value := range s.Values {
			if value[1] != "NaN" {
				points++
			}
		}
	}
	return points, err
}

var labelValues = regexp.MustCompile(`label_values\((.+), (\w+)\)`)

// values answers a variable's query: label_values(SERIES, LABEL).
func (p *prometheus) values(query string) ([]string, error) {
	var parsed struct{ Query string }
	if err := json.Unmarshal([]byte(query), &parsed); err != nil {
		return nil, err
	}
	found := labelValues.FindStringSubmatch(parsed.Query)
	if found == nil {
		return nil, fmt.Errorf("%q is no label_values", parsed.Query)
	}
	var values []string
	err := p.get("/api/v1/label/"+found[2]+"/values", url.Values{"match[]": {withVariables(found[1])}}, &values)
	return values, err
}

// names returns the names of all metrics.
func (p *prometheus) names(t *testing.T) map[string]bool {
	t.Helper()
	var all []string
	if err := p.get("/api/v1/label/__name__/values", nil, &all); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, name := range all {
		names[name] = true
	}
	return names
}
