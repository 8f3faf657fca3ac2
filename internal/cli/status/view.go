package status

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
)

type view struct {
	out   io.Writer
	paint display.Paint
	now   time.Time
	wide  bool
	// namespaces says that the reports are of several namespaces.
	namespaces bool
}

// all prints a line for each pool, and then what fails.
func (v view) all(reports []poolReport) {
	t := display.Table{Columns: []string{
		"NAMESPACE", "NAME", "TYPE", "HEALTH", "TARGETS", "WARM", "IN USE", "USES", "OLDEST", "LAST USED",
		"WANTED", "DIALING", "DRAINING", "SINCE",
	}}
	t.ShowOnlyIf(v.namespaces, "NAMESPACE")
	t.ShowOnlyIf(v.wide, "WANTED", "DIALING", "DRAINING", "SINCE")
	for _, r := range reports {
		t.Add(v.row(r)...)
	}
	t.Write(v.out)
	for _, r := range reports {
		v.failing(r)
	}
}

func (v view) row(r poolReport) []string {
	c := r.Connections
	return []string{
		r.Namespace, r.Name, r.Type, r.Health, readyOf(r.Targets), number(c.Warm), number(c.InUse),
		strconv.FormatInt(r.UseCount, 10), v.age(r.Oldest), v.age(r.LastUsed),
		number(c.Desired), number(c.Dialing), number(c.Draining), v.age(r.Since),
	}
}

func (v view) failing(r poolReport) {
	if r.Health == healthReady {
		return
	}
	name := r.Name
	if v.namespaces {
		name = r.Namespace + "/" + name
	}
	fmt.Fprintf(v.out, "\n%s: %s\n", name, v.sentence(r.Health, r.Message, r.Since))
	for _, f := range r.Failing {
		v.failure(f)
	}
	if more := ptr.Deref(r.Targets.Total, 0) - ptr.Deref(r.Targets.Ready, 0) - int32(len(r.Failing)); more > 0 && len(r.Failing) > 0 {
		fmt.Fprintf(v.out, "  and %d more\n", more)
	}
}

// failure prints why a target fails, and the next step.
func (v view) failure(f failure) {
	since := ""
	if f.Since != nil {
		since = " for " + v.age(f.Since)
	}
	fmt.Fprintf(v.out, "  %s %s: %s%s\n", v.paint.Mark(false), display.OneLine(f.Name), display.OneLine(f.Reason), since)
	if f.Message != "" {
		fmt.Fprintf(v.out, "    %s\n", display.OneLine(f.Message))
	}
}

// sentence returns a word of health with its reason.
func (v view) sentence(health, message string, since *metav1.Time) string {
	text := v.paint.In(colorOf(health), display.OneLine(health))
	if since != nil {
		text += " for " + v.age(since)
	}
	if message != "" {
		text += ". " + display.OneLine(message)
	}
	return text
}

func colorOf(health string) string {
	switch health {
	case healthReady:
		return display.Green
	case healthDegraded, healthUnknown, v1alpha1.ReasonWarming, v1alpha1.ReasonPending, v1alpha1.ReasonPaused:
		return display.Yellow
	default:
		return display.Red
	}
}

// one prints all that is known about a pool.
func (v view) one(r poolReport) {
	c := r.Connections
	fmt.Fprintf(v.out, "%s in namespace %s\n\n", v.title(r), r.Namespace)
	v.field("Health", v.sentence(r.Health, r.Message, r.Since))
	v.field("Targets", readyOf(r.Targets)+" ready")
	v.field("Connections", fmt.Sprintf("%s warm of %s wanted, %s in use, %s dialing, %s draining, oldest %s",
		number(c.Warm), number(c.Desired), number(c.InUse), number(c.Dialing), number(c.Draining), v.age(r.Oldest)))
	v.field("Uses", fmt.Sprintf("%d, last %s", r.UseCount, v.before(r.LastUsed)))
	if len(r.Members) == 0 {
		return
	}
	fmt.Fprintln(v.out)
	v.members(r.Members)
	for _, m := range r.Members {
		v.member(m)
	}
}

func (v view) title(r poolReport) string {
	if r.Type == "" {
		return "Pool " + r.Name
	}
	return fmt.Sprintf("Pool %s (%s)", r.Name, r.Type)
}

func (v view) field(name, text string) { fmt.Fprintf(v.out, "%-13s%s\n", name+":", text) }

// before says how long ago something happened, as a part of a sentence.
func (v view) before(at *metav1.Time) string {
	if at.IsZero() {
		return "never"
	}
	return v.age(at) + " ago"
}

func (v view) members(members []targetReport) {
	t := display.Table{Columns: []string{
		"TARGET", "HEALTH", "WARM", "IN USE", "USES", "LAST USED", "ENDPOINT", "SERVER", "REPLICA", "SINCE",
	}}
	t.ShowOnlyIf(v.wide, "SERVER", "REPLICA", "SINCE")
	for _, m := range members {
		t.Add(m.Name, m.Health, number(m.Connections.Warm), number(m.Connections.InUse), strconv.FormatInt(m.UseCount, 10),
			v.age(m.LastUsed), m.Endpoint, m.ServerVersion, m.Replica, v.age(m.Since))
	}
	t.Write(v.out)
}

// member prints the conditions of a target that is not ready.
func (v view) member(m targetReport) {
	if m.Ready {
		return
	}
	fmt.Fprintf(v.out, "\n%s %s: %s\n", v.paint.Mark(false), m.Name, v.sentence(m.Health, m.Message, m.Since))
	for _, c := range m.Conditions {
		if c.Type == v1alpha1.ConditionReady || c.Message == m.Message {
			continue
		}
		fmt.Fprintf(v.out, "    %s %s=%s for %s, %s: %s\n", v.sign(c),
			c.Type, c.Status, v.age(&c.LastTransitionTime), display.OneLine(c.Reason), display.OneLine(c.Message))
	}
}

// sign marks a condition as good or bad.
func (v view) sign(c metav1.Condition) string {
	holds := c.Status == metav1.ConditionTrue
	switch c.Type {
	case v1alpha1.ConditionReconciling:
		// Work that the operator does by itself is neither good nor bad.
		return v.paint.Attention()
	case v1alpha1.ConditionStalled, v1alpha1.ConditionDegraded:
		return v.paint.Mark(!holds)
	default:
		return v.paint.Mark(holds)
	}
}

func (v view) age(at *metav1.Time) string { return display.Ago(at, v.now) }

func readyOf(c v1alpha1.TargetCounts) string {
	if c.Total == nil {
		return display.None
	}
	return strings.Join([]string{number(c.Ready), number(c.Total)}, "/")
}

func number(n *int32) string {
	if n == nil {
		return display.None
	}
	return strconv.Itoa(int(*n))
}
