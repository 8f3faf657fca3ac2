package connectiontarget

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/connectionpool"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/metrics"
	"github.com/connpool/connpool/internal/poolset"
)

// update writes the table of places, of which the reference of conditions has a copy:
// make update-codegen.
var update = flag.Bool("update", false, "write testdata/places.md")

const placesFile = "testdata/places.md"

// scenario leads to a reason. Its target was warm before, unless it is new.
type scenario struct {
	// state tells it from other scenarios of the reason.
	state  string
	isNew  bool
	change func(*facts)
	decide func(*decision)
	seen   []poolset.PoolObservation
	// pool changes the pool, and others are its other targets.
	pool   func(*v1alpha1.ConnectionPool)
	others []v1alpha1.ConnectionTarget
	// ofPool says that the reason is not about a target, and alone that the pool has none.
	ofPool, alone bool
	// unpooled says that no pool has the target.
	unpooled bool
	// working says that the reason is no failure of its own: the operator goes on by itself.
	working bool
	// never says where the reason is instead, because no condition has it.
	never string
}

const anAnswer = "an answer of the live API to one request, never a condition"

func dialFails(reason driver.Reason) []scenario {
	return []scenario{
		{seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 0, failing(reason))}},
		{state: "still serves", seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(reason))}},
	}
}

// refusedAs are the scenarios of what the target refers to when it cannot be used.
func refusedAs(reason string) []scenario {
	refusal := func(decided *decision) {
		decided.problem = &problem{condition: v1alpha1.ConditionCredentialsReady, reason: reason, message: "cannot be parsed; correct it"}
	}
	return []scenario{
		{decide: refusal},
		{state: "still serves", decide: refusal, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1)}},
	}
}

func warmTarget(name string) v1alpha1.ConnectionTarget {
	target := *sshTarget(name)
	target.Status = wasReady()
	return target
}

// scenarios are those of each reason.
func scenarios() map[string][]scenario {
	up := []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1)}
	warm := []scenario{{isNew: true, seen: up}}
	all := map[string][]scenario{
		v1alpha1.ReasonProbeFailed:        {{seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(driver.ProbeFailed))}}},
		v1alpha1.ReasonCredentialsMissing: append([]scenario{{change: func(f *facts) { f.path[0].secret = nil }}}, refusedAs(v1alpha1.ReasonCredentialsMissing)[1]),
		v1alpha1.ReasonCredentialsInvalid: append(refusedAs(v1alpha1.ReasonCredentialsInvalid), scenario{
			state: "refused by the server, still serves",
			seen:  []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1, refused(driver.AuthenticationFailed))},
		}),
		v1alpha1.ReasonHostKeysInvalid: refusedAs(v1alpha1.ReasonHostKeysInvalid),
		v1alpha1.ReasonNotFound:        {{never: anAnswer}},
		v1alpha1.ReasonPoolExhausted:   {{never: anAnswer}},

		v1alpha1.ReasonWarm: warm, v1alpha1.ReasonConnected: warm, v1alpha1.ReasonCredentialsValid: warm,
		v1alpha1.ReasonJumpHost: {{isNew: true, unpooled: true, change: func(f *facts) { f.pools, f.onlyJumpHost = nil, true }}},

		v1alpha1.ReasonPending: {{isNew: true, decide: func(d *decision) { d.problem = &problem{reason: v1alpha1.ReasonPending, message: "wait"} }}},
		v1alpha1.ReasonWarming: {
			{isNew: true, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUnknown, 0)}},
			{
				state: "serves and gets more", seen: up,
				change: func(f *facts) { f.pools[0].Spec.Size.MinWarm = new(int32(2)) },
				pool:   func(p *v1alpha1.ConnectionPool) { p.Spec.Size.MinWarm = new(int32(2)) },
			},
		},
		v1alpha1.ReasonRetrying: {{working: true, seen: dialFails(driver.Timeout)[0].seen}},
		v1alpha1.ReasonRotating: {{seen: []poolset.PoolObservation{
			seenBy("p", poolset.HealthUp, 1, func(o *poolset.PoolObservation) { o.Rotation.Pending = true }),
		}}},

		v1alpha1.ReasonNotSelected:       {{unpooled: true, change: func(f *facts) { f.pools = nil }}},
		v1alpha1.ReasonDriverUnavailable: {{change: func(f *facts) { f.target.Spec.SSH, f.target.Spec.Docker = nil, &v1alpha1.DockerTarget{} }}},
		v1alpha1.ReasonPaused: {{
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUnknown, 0, pausedPool)},
			pool: func(p *v1alpha1.ConnectionPool) { p.Spec.State = new(v1alpha1.PoolPaused) },
		}},
		v1alpha1.ReasonJumpTargetInvalid: {{change: through("web")}},
	}
	maps.Copy(all, scenariosOfPools(up))
	for _, reason := range []driver.Reason{
		driver.Unreachable, driver.DNSError, driver.Timeout, driver.AuthenticationFailed, driver.HostKeyMismatch,
		driver.CertificateInvalid, driver.SessionLimit, driver.ConnectionLimit, driver.ThrottledByServer, driver.ProtocolError,
		driver.JumpTargetNotReady, driver.AddressDenied, driver.Forbidden,
	} {
		all[string(reason)] = dialFails(reason)
	}
	return all
}

func scenariosOfPools(up []poolset.PoolObservation) map[string][]scenario {
	selecting := func(selector metav1.LabelSelector) func(*v1alpha1.ConnectionPool) {
		return func(p *v1alpha1.ConnectionPool) { p.Spec.TargetRef, p.Spec.TargetSelector = nil, &selector }
	}
	down := dialFails(driver.Timeout)
	return map[string][]scenario{
		v1alpha1.ReasonDegraded: {{ofPool: true, seen: down[0].seen, others: []v1alpha1.ConnectionTarget{warmTarget("web-2")}}},
		v1alpha1.ReasonTargetsFailing: {
			{ofPool: true, seen: down[0].seen},
			{state: "still serve", ofPool: true, seen: down[1].seen},
		},
		v1alpha1.ReasonNoTargets: {{
			ofPool: true, alone: true, pool: selecting(metav1.LabelSelector{MatchLabels: map[string]string{"app": "none"}}),
		}},
		v1alpha1.ReasonTargetNotFound: {{ofPool: true, alone: true}},
		v1alpha1.ReasonSelectorInvalid: {{
			ofPool: true, alone: true,
			pool: selecting(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}),
		}},
		v1alpha1.ReasonScheduleInvalid: {{ofPool: true, seen: up, pool: func(p *v1alpha1.ConnectionPool) {
			p.Spec.Warming.Schedules = []v1alpha1.WarmingSchedule{{Name: "never", Start: "0 0 30 2 *", End: "0 1 30 2 *", MinWarm: 2}}
		}}},
	}
}

// shown is what each place shows of a reason; empty if it does not show it.
type shown struct {
	targetStatus, targetConditions, targetHealth string
	poolStatus, poolConditions, poolHealth       string
	failingTargets, events, metric               string
}

// made are the objects of a scenario with the statuses that the real reporters write, and
// those that they wrote before it.
type made struct {
	target, targetBefore v1alpha1.ConnectionTarget
	pool                 v1alpha1.ConnectionPool
	poolBefore           v1alpha1.ConnectionPoolStatus
	failing              map[metrics.Failing]int
}

// make has the reporters write the statuses.
func (s scenario) make() made {
	m := made{targetBefore: warmTarget("web")}
	f := complete()
	if s.isNew {
		m.targetBefore.Status = v1alpha1.ConnectionTargetStatus{}
	}
	if s.change != nil {
		s.change(&f)
	}
	decided := decide(f, sshOnly)
	if s.decide != nil {
		s.decide(&decided)
	}
	m.target = *f.target
	m.target.Status = report(f, decided, observation(s.seen...), m.targetBefore.Status, "replica")
	m.pool = v1alpha1.ConnectionPool{ObjectMeta: poolNamed("p").ObjectMeta}
	m.pool.Generation = 2
	m.pool.Spec.TargetRef = &v1alpha1.TargetRef{Name: "web"}
	if !s.isNew {
		m.poolBefore, _ = connectionpool.Report(&m.pool, append(slices.Clone(s.others), m.targetBefore), v1alpha1.ConnectionPoolStatus{}, f.now)
	}
	if s.pool != nil {
		s.pool(&m.pool)
	}
	targets := append(slices.Clone(s.others), m.target)
	if s.alone {
		targets = nil
	}
	m.pool.Status, m.failing = connectionpool.Report(&m.pool, targets, m.poolBefore, f.now)
	return m
}

// places are what the real reporters, the printer columns of the CRDs, the events and the
// metrics make of a scenario.
func (s scenario) places(t *testing.T, reason string) shown {
	t.Helper()
	m, computed := s.make(), s.healths(t, argoCD(t))
	found := shown{targetHealth: computed.target.String(), poolHealth: computed.pool.String()}
	if !s.alone && !s.ofPool {
		found.targetStatus = statusColumn(t, "connectiontargets", &m.target)
		found.targetConditions = conditionsOf(m.target.Status.Conditions, reason)
		found.events = eventsOf("target", m.targetBefore.Status.Conditions, m.target.Status.Conditions, reason)
	}
	if s.unpooled {
		return found
	}
	found.poolStatus = statusColumn(t, "connectionpools", &m.pool)
	found.poolConditions = conditionsOf(m.pool.Status.Conditions, reason)
	for _, listed := range m.pool.Status.FailingTargets {
		if listed.Reason == reason {
			found.failingTargets = "yes"
		}
	}
	found.events = joined(found.events, eventsOf("pool", m.poolBefore.Conditions, m.pool.Status.Conditions, reason))
	found.metric = series(t, &m.pool, m.failing, reason)
	return found
}

// statusColumn returns what kubectl get shows of an object under STATUS.
func statusColumn(t *testing.T, resource string, object any) string {
	t.Helper()
	manifest, err := os.ReadFile("../../../config/crd/bases/connpool.dev_" + resource + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(manifest, &definition); err != nil {
		t.Fatal(err)
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range definition.Spec.Versions[0].AdditionalPrinterColumns {
		if printed.Name != "Status" {
			continue
		}
		path, cell := jsonpath.New("status"), new(bytes.Buffer)
		if err := path.Parse("{" + printed.JSONPath + "}"); err != nil {
			t.Fatal(err)
		}
		if err := path.Execute(cell, fields); err != nil {
			t.Fatal(err)
		}
		return cell.String()
	}
	t.Fatalf("%s have no column STATUS", resource)
	return ""
}

// conditionsOf returns the conditions that have the reason, and those whose message
// names it.
func conditionsOf(conditions []metav1.Condition, reason string) string {
	var found []string
	for _, c := range conditions {
		switch {
		case c.Reason == reason:
			found = append(found, fmt.Sprintf("%s=%s", c.Type, c.Status))
		case strings.Contains(c.Message, "("+reason):
			found = append(found, fmt.Sprintf("%s=%s, in the message", c.Type, c.Status))
		}
	}
	return strings.Join(found, "; ")
}

func eventsOf(object string, before, after []metav1.Condition, reason string) string {
	var found []string
	for _, event := range status.Events(before, after) {
		switch {
		case event.Reason == reason:
			found = append(found, fmt.Sprintf("%s: %s", object, event.Type))
		case strings.Contains(event.Note, "("+reason):
			found = append(found, fmt.Sprintf("%s: %s %s", object, event.Type, event.Reason))
		}
	}
	return strings.Join(found, "; ")
}

// series returns the names of the metrics that have the reason as a label.
func series(t *testing.T, pool *v1alpha1.ConnectionPool, failing map[metrics.Failing]int, reason string) string {
	t.Helper()
	var conditions []metrics.Condition
	for _, c := range pool.Status.Conditions {
		conditions = append(conditions, metrics.Condition{Type: c.Type, Status: string(c.Status), Reason: c.Reason})
	}
	collector, registry := new(metrics.Conditions), prometheus.NewPedanticRegistry()
	collector.Set(string(pool.UID), pool.Namespace, pool.Name, conditions, failing)
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "reason" && label.GetValue() == reason && !slices.Contains(names, family.GetName()) {
					names = append(names, family.GetName())
				}
			}
		}
	}
	return strings.Join(names, "; ")
}

func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), "; ")
}

// missing returns the places that do not show a failure, although people look there.
func (s scenario) missing(reason string, at shown) []string {
	if v1alpha1.IsExpectedReason(reason) || s.working {
		return nil
	}
	places := map[string]string{
		"conditions of pools": at.poolConditions, "events": at.events, "metrics": at.metric,
	}
	if s.ofPool {
		places["STATUS of pools"] = containing(at.poolStatus, reason)
	} else {
		places["STATUS of targets"] = containing(at.targetStatus, reason)
		places["conditions of targets"] = at.targetConditions
		places["failingTargets"] = at.failingTargets
		places["STATUS of pools"] = strings.Trim(strings.TrimPrefix(at.poolStatus, v1alpha1.ReasonWarm), ",")
	}
	if driver.Reason(reason).Permanent() {
		places["STATUS of pools"] = containing(at.poolStatus, reason)
	}
	var missing []string
	for _, place := range slices.Sorted(maps.Keys(places)) {
		if places[place] == "" {
			missing = append(missing, place)
		}
	}
	return missing
}

func containing(text, reason string) string {
	if slices.Contains(strings.Split(text, ","), reason) {
		return text
	}
	return ""
}

// reasonsInOrder returns the condition reasons of the API as they stand in its source.
func reasonsInOrder(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../api/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			reason, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, reason)
		}
		return true
	})
	return reasons
}

// row renders what is shown as a row of the table.
func (s scenario) row(reason string, at shown) string {
	name := "`" + reason + "`"
	if s.state != "" {
		name += ", " + s.state
	}
	if s.never != "" {
		return fmt.Sprintf("| %s | *%s* | | | | | | | | |\n", name, s.never)
	}
	cells := []string{name}
	for _, cell := range []string{
		at.targetStatus, at.targetConditions, at.targetHealth, at.poolStatus, at.poolConditions, at.poolHealth,
		at.failingTargets, at.events, at.metric,
	} {
		if cell == "" {
			cell = "-"
		}
		cells = append(cells, cell)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func TestEveryReasonIsShownWherePeopleLook(t *testing.T) {
	all := scenarios()
	var table strings.Builder
	table.WriteString("| reason | STATUS of the target | its conditions | its health | STATUS of the pool | its conditions | its health " +
		"| failingTargets | events | metrics with the reason |\n" + strings.Repeat("| --- ", 10) + "|\n")
	for _, reason := range reasonsInOrder(t) {
		if len(all[reason]) == 0 {
			t.Errorf("%s has no scenario: say how it comes about, so that the table shows where people see it", reason)
		}
		for _, s := range all[reason] {
			var at shown
			if s.never == "" {
				at = s.places(t, reason)
			}
			if missing := s.missing(reason, at); s.never == "" && len(missing) > 0 {
				t.Errorf("%s %s is not shown in %s", reason, s.state, strings.Join(missing, ", "))
			}
			table.WriteString(s.row(reason, at))
		}
	}
	if *update {
		if err := os.WriteFile(placesFile, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(placesFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), table.String()); diff != "" {
		t.Errorf("%s is out of date; make update-codegen (-golden +now):\n%s", placesFile, diff)
	}
}
