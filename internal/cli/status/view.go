package status

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
)

type view struct {
	out   io.Writer
	paint display.Paint
	now   func() time.Time
	wide  bool
	// namespaces says that the reports are of several namespaces.
	namespaces bool
	noHeaders  bool
	// pages counts those that have been printed.
	pages int
}

// below prints what fails, below the table of pools.
func (v *view) below(reports []poolReport, others []targetReport) {
	for i := range reports {
		v.failing(&reports[i])
	}
	if len(others) == 0 {
		return
	}
	fmt.Fprintln(v.out, "\nTargets that no pool selects:")
	shown := others[:min(len(others), mostFailing)]
	for i := range shown {
		t := shown[i].trouble()
		if v.namespaces {
			t.Name = shown[i].Namespace + "/" + t.Name
		}
		v.trouble(t)
	}
	v.more(len(others) - len(shown))
}

func (v *view) more(n int) {
	if n > 0 {
		fmt.Fprintf(v.out, "  +%d more\n", n)
	}
}

// mostFailing bounds the failing targets of a pool that are printed in a list of pools.
const mostFailing = 10

func (v *view) failing(r *poolReport) {
	if r.isFine() {
		return
	}
	name := r.Name
	if v.namespaces {
		name = r.Namespace + "/" + name
	}
	fmt.Fprintf(v.out, "\n%s: %s\n", name, v.sentence(r.Status, r.Message, r.Since))
	shown := r.Failing[:min(len(r.Failing), mostFailing)]
	for _, t := range slices.Concat(r.Troubles, shown) {
		v.trouble(t)
	}
	v.more(len(r.Failing) + r.unlisted() - len(shown))
}

// trouble prints why a target fails, or what is wrong with the pool, and the next step.
func (v *view) trouble(t trouble) {
	text := display.OneLine(t.Reason)
	if t.Name != "" {
		text = display.OneLine(t.Name) + ": " + text
	}
	if t.Since != nil {
		text += " for " + v.age(t.Since)
	}
	if t.Serving {
		text += ", still serving"
	}
	mark := v.paint.Mark(false)
	if v1alpha1.IsExpectedReason(t.Reason) {
		mark = v.paint.Attention()
	}
	fmt.Fprintf(v.out, "  %s %s\n", mark, text)
	if t.Message != "" {
		fmt.Fprintf(v.out, "    %s\n", display.OneLine(t.Message))
	}
}

// sentence returns a status with its reason. What else is wrong, behind a comma, began
// at other times.
func (v *view) sentence(status, message string, since *metav1.Time) string {
	text := v.paint.In(colorOf(status), display.OneLine(status))
	if since != nil && !strings.Contains(status, ",") {
		text += " for " + v.age(since)
	}
	if message != "" {
		text += ". " + display.OneLine(message)
	}
	return text
}

// colorOf returns the color of a status: that of its worst word.
func colorOf(status string) string {
	color := display.Green
	for word := range strings.SplitSeq(status, ",") {
		switch word {
		case healthReady, v1alpha1.ReasonWarm, v1alpha1.ReasonJumpHost:
		case healthDegraded, healthUnknown, v1alpha1.ReasonWarming, v1alpha1.ReasonPending, v1alpha1.ReasonPaused,
			v1alpha1.ReasonRotating, v1alpha1.ReasonNotSelected:
			color = display.Yellow
		default:
			return display.Red
		}
	}
	return color
}

// page prints a pool, below what a watch has printed of it before.
func (v *view) page(r *poolReport) {
	if v.pages++; v.pages > 1 {
		fmt.Fprintf(v.out, "\n%s\n\n", v.now().Format(time.TimeOnly))
	}
	v.one(r)
}

// one prints all that is known about a pool.
func (v *view) one(r *poolReport) {
	c := r.Connections
	if !v.noHeaders {
		fmt.Fprintf(v.out, "%s in namespace %s\n\n", v.title(r), r.Namespace)
		v.field("Status", v.sentence(r.Status, r.Message, r.Since))
		for _, t := range r.Troubles {
			v.trouble(t)
		}
		v.field("Targets", fractionOf(r.Targets)+" ready")
		v.field("Connections", fmt.Sprintf("%s warm of %s wanted, %s in use, %s dialing, %s draining, oldest %s",
			number(c.Warm), number(c.Desired), number(c.InUse), number(c.Dialing), number(c.Draining), v.age(r.Oldest)))
		v.field("Uses", fmt.Sprintf("%d, last %s", r.UseCount, v.before(r.LastUsed)))
	}
	if len(r.Members) == 0 {
		v.nameless(r)
		return
	}
	v.members(r.Members)
	for i := range r.Members {
		v.member(&r.Members[i])
	}
}

// nameless prints the failing targets of a pool whose targets cannot be read.
func (v *view) nameless(r *poolReport) {
	for _, t := range r.Failing {
		v.trouble(t)
	}
}

func (v *view) title(r *poolReport) string {
	if r.Type == "" {
		return "Pool " + r.Name
	}
	return fmt.Sprintf("Pool %s (%s)", r.Name, r.Type)
}

func (v *view) field(name, text string) { fmt.Fprintf(v.out, "%-13s%s\n", name+":", text) }

// before says how long ago something happened, as a part of a sentence.
func (v *view) before(at *metav1.Time) string {
	if at.IsZero() {
		return "never"
	}
	return v.age(at) + " ago"
}

func (v *view) members(members []targetReport) {
	t := &display.Table{
		NoHeaders: v.noHeaders, Paint: v.paint, Colors: map[string]func(string) string{titleOfStatus: colorOf},
	}
	for _, column := range targetColumns {
		t.Columns = append(t.Columns, column.Title())
		t.ShowOnlyIf(!column.Wide || v.wide, column.Title())
	}
	for i := range members {
		var cells []string
		for _, column := range targetColumns {
			cells = append(cells, fmt.Sprint(column.Cell(&members[i], v.now())))
		}
		t.Add(cells...)
	}
	if !v.noHeaders {
		fmt.Fprintln(v.out)
	}
	t.Write(v.out)
}

// member prints the conditions of a target that is not as it should be.
func (v *view) member(m *targetReport) {
	if m.isFine() || v.noHeaders {
		return
	}
	fmt.Fprintf(v.out, "\n%s %s: %s\n", v.paint.Mark(false), m.Name, v.sentence(m.Status, m.Message, m.Since))
	for _, c := range m.Conditions {
		if c.Type == v1alpha1.ConditionReady || !m.Ready && c.Message == m.Message || repeatsCredentials(c, m.Conditions) {
			continue
		}
		fmt.Fprintf(v.out, "    %s %s=%s for %s, %s: %s\n", v.sign(c),
			c.Type, c.Status, v.age(&c.LastTransitionTime), display.OneLine(c.Reason), display.OneLine(c.Message))
	}
}

// repeatsCredentials reports whether a condition says that the target is stalled by its
// credentials, which CredentialsReady says at more length.
func repeatsCredentials(c metav1.Condition, all []metav1.Condition) bool {
	credentials := meta.FindStatusCondition(all, v1alpha1.ConditionCredentialsReady)
	return c.Type == v1alpha1.ConditionStalled && credentials != nil &&
		credentials.Status == metav1.ConditionFalse && credentials.Reason == c.Reason
}

// sign marks a condition as good or bad.
func (v *view) sign(c metav1.Condition) string {
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

func (v *view) age(at *metav1.Time) string { return display.Ago(at, v.now()) }

func fractionOf(c v1alpha1.TargetCounts) string {
	if c.Total == nil {
		return display.None
	}
	return number(c.Ready) + "/" + number(c.Total)
}

func number(n *int32) string {
	if n == nil {
		return display.None
	}
	return strconv.Itoa(int(*n))
}
