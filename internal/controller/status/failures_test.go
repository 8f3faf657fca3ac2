package status

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// is returns a condition.
func is(kind string, status bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if status {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func TestEventsTellOnceWhatBeginsAndWhatEnds(t *testing.T) {
	type conditions = []metav1.Condition
	ready := is("Ready", true, "Warm", "warm")
	valid, connected := is("CredentialsReady", true, "CredentialsValid", "valid"), is("Reachable", true, "Connected", "answers")
	refused := is("CredentialsReady", false, "CredentialsInvalid", "refused")
	stalled := is("Stalled", true, "CredentialsInvalid", "the changed credentials are refused")
	down := conditions{valid, is("Reachable", false, "Timeout", "no answer"), is("Ready", false, "Timeout", "no answer")}
	tests := map[string]struct {
		before, after conditions
		want          []Event
	}{
		"a new object is not ready yet": {nil, conditions{is("Ready", false, "Warming", "wait")}, nil},
		"a new object is ready":         {nil, conditions{ready}, []Event{{"Normal", "Warm", "Warm: warm"}}},
		"a new object fails": {
			nil,
			conditions{is("Ready", false, "CredentialsMissing", "gone"), is("CredentialsReady", false, "CredentialsMissing", "gone")},
			[]Event{{"Warning", "CredentialsMissing", "CredentialsMissing: gone"}},
		},
		"changed credentials are refused": {
			conditions{ready, valid, connected},
			conditions{ready, refused, connected, stalled},
			[]Event{{"Warning", "CredentialsInvalid", "CredentialsInvalid: the changed credentials are refused"}},
		},
		"they are still refused": {
			conditions{ready, refused, stalled}, conditions{ready, is("CredentialsReady", false, "CredentialsInvalid", "other words"), stalled}, nil,
		},
		"they are put right": {
			conditions{ready, refused, connected, stalled},
			conditions{ready, valid, connected},
			[]Event{{"Normal", "Warm", "Warm, was CredentialsInvalid: warm"}},
		},
		"a schedule is put right": {
			conditions{ready, is("Stalled", true, "ScheduleInvalid", "never due")},
			conditions{ready},
			[]Event{{"Normal", "Warm", "Warm, was ScheduleInvalid: warm"}},
		},
		"a target is lost": {
			conditions{ready, valid, connected}, down, []Event{{"Warning", "Timeout", "Timeout, was Warm: no answer"}},
		},
		"it comes back": {
			down, conditions{ready, valid, connected}, []Event{{"Normal", "Warm", "Warm, was Timeout: warm"}},
		},
		"one transient failure instead of another": {
			down, conditions{valid, is("Reachable", false, "Unreachable", "no route"), is("Ready", false, "Unreachable", "no route")}, nil,
		},
		"it takes no more connections": {
			conditions{ready, valid, connected},
			conditions{ready, valid, is("Reachable", false, "Unreachable", "refused")},
			[]Event{{"Warning", "Unreachable", "Unreachable: refused"}},
		},
		"it takes some again": {
			conditions{ready, valid, is("Reachable", false, "Unreachable", "refused")},
			conditions{ready, valid, connected},
			[]Event{{"Normal", "Connected", "Connected, was Unreachable: answers"}},
		},
		"what it serves with is lost, too": {
			conditions{ready, valid, is("Reachable", false, "Unreachable", "refused")},
			down,
			[]Event{{"Warning", "Timeout", "Timeout, was Warm: no answer"}},
		},
		"targets of a pool fail": {
			conditions{ready},
			conditions{is("Ready", true, "Degraded", "1 of 2"), is("Degraded", true, "TargetsFailing", "1 of 2")},
			[]Event{{"Warning", "Degraded", "Degraded, was Warm: 1 of 2"}},
		},
		"targets of a pool fail and still serve": {
			conditions{ready},
			conditions{ready, is("Degraded", true, "TargetsFailing", "1 of 2")},
			[]Event{{"Warning", "TargetsFailing", "TargetsFailing: 1 of 2"}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Events(tc.before, tc.after)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnotherMessageIsNewsIfItTellsWhatAPersonHasToChange(t *testing.T) {
	tests := map[string]struct {
		before, after metav1.Condition
		want          bool
	}{
		"the Secret exists and lacks a key": {
			is("CredentialsReady", false, "CredentialsMissing", "a"), is("CredentialsReady", false, "CredentialsMissing", "b"), true,
		},
		"a jump host lacks something else": {
			is("Stalled", true, "JumpTargetNotReady", "a"), is("Stalled", true, "JumpTargetNotReady", "b"), true,
		},
		"the same words":                   {is("Stalled", true, "HostKeysInvalid", "a"), is("Stalled", true, "HostKeysInvalid", "a"), false},
		"another message about a dial":     {is("Reachable", false, "Timeout", "a"), is("Reachable", false, "Timeout", "b"), false},
		"other targets of a pool fail":     {is("Degraded", true, "TargetsFailing", "a"), is("Degraded", true, "TargetsFailing", "b"), false},
		"a good condition has other words": {is("Ready", true, "Warm", "a"), is("Ready", true, "Warm", "b"), false},
		"more connections are to come":     {is("Ready", false, "Warming", "a"), is("Ready", false, "Warming", "b"), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Reworded([]metav1.Condition{tc.before}, []metav1.Condition{tc.after}); got != tc.want {
				t.Errorf("news: %t, want %t", got, tc.want)
			}
		})
	}
}
