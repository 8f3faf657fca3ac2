package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
)

// statusView prints reports for people.
type statusView struct {
	out   io.Writer
	paint paint
	now   time.Time
	// wide adds columns.
	wide bool
	// namespaces says that the reports are of several.
	namespaces bool
}

// all prints a line for each pool, then what fails.
func (v statusView) all(reports []poolReport) {
	t := table{columns: []string{"NAME", "TYPE", "HEALTH", "TARGETS", "WARM", "IN USE", "USES", "OLDEST", "LAST USED"}}
	if v.namespaces {
		t.columns = append([]string{"NAMESPACE"}, t.columns...)
	}
	if v.wide {
		t.columns = append(t.columns, "WANTED", "DIALING", "DRAINING", "SINCE")
	}
	for _, r := range reports {
		t.add(v.row(r)...)
	}
	t.write(v.out)
	for _, r := range reports {
		v.failing(r)
	}
}

func (v statusView) row(r poolReport) []string {
	cells := []string{
		r.Name, r.Type, r.Health, readyOf(r.Targets), number(r.Connections.Warm), number(r.Connections.InUse),
		strconv.FormatInt(r.UseCount, 10), v.age(r.Oldest), v.age(r.LastUsed),
	}
	if v.namespaces {
		cells = append([]string{r.Namespace}, cells...)
	}
	if v.wide {
		c := r.Connections
		cells = append(cells, number(c.Desired), number(c.Dialing), number(c.Draining), v.age(r.Since))
	}
	return cells
}

// failing prints why a pool is not as it should be.
func (v statusView) failing(r poolReport) {
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
	if more := value(r.Targets.Total) - value(r.Targets.Ready) - int32(len(r.Failing)); more > 0 && len(r.Failing) > 0 {
		fmt.Fprintf(v.out, "  and %d more\n", more)
	}
}

// failure prints why a target fails, and the next step.
func (v statusView) failure(f failure) {
	since := ""
	if f.Since != nil {
		since = " for " + v.age(f.Since)
	}
	fmt.Fprintf(v.out, "  %s %s: %s%s\n", v.paint.mark(false), oneLine(f.Name), oneLine(f.Reason), since)
	if f.Message != "" {
		fmt.Fprintf(v.out, "    %s\n", oneLine(f.Message))
	}
}

// sentence is a word of health with its reason.
func (v statusView) sentence(health, message string, since *metav1.Time) string {
	text := v.paint.in(colorOf(health), oneLine(health))
	if since != nil {
		text += " for " + v.age(since)
	}
	if message != "" {
		text += ". " + oneLine(message)
	}
	return text
}

func colorOf(health string) string {
	switch health {
	case healthReady:
		return green
	case healthDegraded, healthUnknown, v1alpha1.ReasonWarming, v1alpha1.ReasonPending, v1alpha1.ReasonPaused:
		return yellow
	default:
		return red
	}
}

// one prints all that is known of a pool.
func (v statusView) one(r poolReport) {
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

func (v statusView) title(r poolReport) string {
	if r.Type == "" {
		return "Pool " + r.Name
	}
	return fmt.Sprintf("Pool %s (%s)", r.Name, r.Type)
}

func (v statusView) field(name, text string) { fmt.Fprintf(v.out, "%-13s%s\n", name+":", text) }

// before says when something was, as a part of a sentence.
func (v statusView) before(at *metav1.Time) string {
	if at.IsZero() {
		return "never"
	}
	return v.age(at) + " ago"
}

func (v statusView) members(members []targetReport) {
	t := table{columns: []string{"TARGET", "HEALTH", "WARM", "IN USE", "USES", "LAST USED", "ENDPOINT"}}
	if v.wide {
		t.columns = append(t.columns, "SERVER", "REPLICA", "SINCE")
	}
	for _, m := range members {
		cells := []string{
			m.Name, m.Health, number(m.Connections.Warm), number(m.Connections.InUse),
			strconv.FormatInt(m.UseCount, 10), v.age(m.LastUsed), m.Endpoint,
		}
		if v.wide {
			cells = append(cells, m.ServerVersion, m.Replica, v.age(m.Since))
		}
		t.add(cells...)
	}
	t.write(v.out)
}

// member prints the conditions of a target that is not ready.
func (v statusView) member(m targetReport) {
	if m.Ready {
		return
	}
	fmt.Fprintf(v.out, "\n%s %s: %s\n", v.paint.mark(false), m.Name, v.sentence(m.Health, m.Message, m.Since))
	for _, c := range m.Conditions {
		if c.Type == v1alpha1.ConditionReady || c.Message == m.Message {
			continue
		}
		fmt.Fprintf(v.out, "    %s %s=%s for %s, %s: %s\n", v.sign(c),
			c.Type, c.Status, v.age(&c.LastTransitionTime), oneLine(c.Reason), oneLine(c.Message))
	}
}

// sign says whether a condition is as one wants it.
func (v statusView) sign(c metav1.Condition) string {
	holds := c.Status == metav1.ConditionTrue
	switch c.Type {
	case v1alpha1.ConditionReconciling:
		// Work that goes on by itself is neither good nor bad.
		return v.paint.in(yellow, "!")
	case v1alpha1.ConditionStalled, v1alpha1.ConditionDegraded:
		return v.paint.mark(!holds)
	default:
		return v.paint.mark(holds)
	}
}

func (v statusView) age(at *metav1.Time) string { return ago(at, v.now) }

// readyOf says how many of the targets are ready.
func readyOf(c v1alpha1.TargetCounts) string {
	if c.Total == nil {
		return none
	}
	return strings.Join([]string{number(c.Ready), number(c.Total)}, "/")
}

func number(n *int32) string {
	if n == nil {
		return none
	}
	return strconv.Itoa(int(*n))
}
