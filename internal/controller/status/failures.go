package status

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// isFailure reports whether a condition says that something is wrong: Stalled or
// Degraded is true, or another one is false for a reason that is not expected.
// Reconciling never does.
func isFailure(condition *metav1.Condition) bool {
	if condition == nil || v1alpha1.IsExpectedReason(condition.Reason) {
		return false
	}
	switch condition.Type {
	case v1alpha1.ConditionReconciling:
		return false
	case v1alpha1.ConditionStalled, v1alpha1.ConditionDegraded:
		return condition.Status == metav1.ConditionTrue
	}
	return condition.Status == metav1.ConditionFalse
}

// Failure returns the first of the conditions of these types that says that something
// is wrong; nil if none does.
func Failure(conditions []metav1.Condition, types ...string) *metav1.Condition {
	for _, kind := range types {
		if found := meta.FindStatusCondition(conditions, kind); isFailure(found) {
			return found
		}
	}
	return nil
}

// Summary returns the reason of Ready and then those of other failures, each once and
// separated by commas, for the column STATUS.
func Summary(conditions []metav1.Condition, failures ...string) *string {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return nil
	}
	reasons := []string{ready.Reason}
	for _, reason := range failures {
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return new(strings.Join(reasons, ","))
}

// needsAPerson reports whether the message of a condition tells a person what to change:
// nothing else removes the condition. TargetsFailing repeats what the conditions of
// targets say, of which some come and go.
func needsAPerson(condition metav1.Condition) bool {
	if condition.Reason == v1alpha1.ReasonTargetsFailing {
		return false
	}
	return condition.Type == v1alpha1.ConditionStalled ||
		isFailure(&condition) && !driver.Reason(condition.Reason).Transient()
}

// Reworded reports whether a condition that only a change by a person removes has
// another message than before: the change that was made was not enough.
func Reworded(before, after []metav1.Condition) bool {
	return slices.ContainsFunc(after, func(condition metav1.Condition) bool {
		old := meta.FindStatusCondition(before, condition.Type)
		return old != nil && old.Message != condition.Message && needsAPerson(condition)
	})
}

// Event is what people are told about a change of conditions.
type Event struct{ Type, Reason, Note string }

// told are the types of conditions whose changes have events, the most important first.
var told = []string{
	v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionCredentialsReady,
	v1alpha1.ConditionReachable, v1alpha1.ConditionDegraded,
}

// Events returns the events of a change: one if Ready changed its status or its reason, a
// warning for each other failure that began, and a normal one for each that ended. What
// several conditions say is told once.
func Events(before, after []metav1.Condition) []Event {
	n := narrator{ready: meta.FindStatusCondition(after, v1alpha1.ConditionReady)}
	for _, kind := range told {
		if known := Failure(before, kind); known != nil {
			n.known = append(n.known, known.Reason) // in another condition it is no news
		}
	}
	for _, kind := range told {
		n.tell(kind, meta.FindStatusCondition(before, kind), meta.FindStatusCondition(after, kind))
	}
	return n.events
}

// narrator collects events.
type narrator struct {
	events []Event
	// ready is Ready after the change.
	ready *metav1.Condition
	// known are the reasons of failures that have been told, now or before, and ended
	// those that have been told to be over.
	known, ended []string
}

func (n *narrator) tell(kind string, before, after *metav1.Condition) {
	switch {
	case kind == v1alpha1.ConditionReady:
		n.tellReady(before, after)
	case isFailure(after) && (!isFailure(before) || changed(*before, *after) && before.Reason != after.Reason):
		n.tellBegin(after)
	case isFailure(before) && !isFailure(after):
		n.tellEnd(before, after)
	}
}

// tellReady tells of Ready. It is no news that a new object is not ready yet, unless it
// fails.
func (n *narrator) tellReady(before, after *metav1.Condition) {
	if after == nil {
		return
	}
	kind := corev1.EventTypeWarning
	if v1alpha1.IsExpectedReason(after.Reason) {
		kind = corev1.EventTypeNormal
	}
	switch {
	case before == nil && kind == corev1.EventTypeNormal && after.Status != metav1.ConditionTrue:
	case before == nil:
		n.add(kind, after, "")
	case before.Status != after.Status || changed(*before, *after) && before.Reason != after.Reason:
		n.add(kind, after, before.Reason)
		n.ended = append(n.ended, before.Reason)
	}
}

// tellBegin warns of a failure, unless an event has its reason or its words already.
func (n *narrator) tellBegin(after *metav1.Condition) {
	same := func(e Event) bool { return strings.HasSuffix(e.Note, ": "+note(after.Message)) }
	if !slices.Contains(n.known, after.Reason) && !slices.ContainsFunc(n.events, same) {
		n.add(corev1.EventTypeWarning, after, "")
	}
}

// tellEnd tells that a failure is over, by what its condition says now or, if that is
// gone, by Ready. While the object is not ready, or another event says what followed,
// there is nothing good to tell.
func (n *narrator) tellEnd(before, after *metav1.Condition) {
	if after == nil {
		after = n.ready
	}
	if after != nil && after.Status == metav1.ConditionTrue && !slices.Contains(n.ended, before.Reason) {
		n.add(corev1.EventTypeNormal, after, before.Reason)
		n.ended = append(n.ended, before.Reason)
	}
}

// add adds an event about a condition, whose reason was another one before unless that
// is empty.
func (n *narrator) add(kind string, condition *metav1.Condition, was string) {
	words := condition.Reason
	if was != "" {
		words += ", was " + was
	}
	n.events = append(n.events, Event{Type: kind, Reason: condition.Reason, Note: words + ": " + note(condition.Message)})
	n.known = append(n.known, condition.Reason)
}

// maxNote bounds the message in the note of an event, in bytes. It leaves room for
// two reasons in the 1,024 bytes that the API allows.
const maxNote = 800

func note(message string) string {
	return strings.ToValidUTF8(message[:min(len(message), maxNote)], "")
}
