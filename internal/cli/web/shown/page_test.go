package shown

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

func condition(kind, status, reason string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: "About " + reason + "."}
}

func TestTheLevelOfATargetSaysWhetherAPersonIsNeeded(t *testing.T) {
	ready := condition(v1alpha1.ConditionReady, "True", v1alpha1.ReasonWarm)
	tests := map[string]struct {
		conditions []metav1.Condition
		share      *v1alpha1.TargetPoolStatus
		want       Health
	}{
		"the operator has not seen it": {nil, nil, Health{Level: LevelUnknown, Word: "Unknown", Message: notLookedAt}},
		"it serves":                    {[]metav1.Condition{ready}, nil, Health{Level: LevelReady, Word: "Ready"}},
		"it fails": {
			[]metav1.Condition{condition(v1alpha1.ConditionReady, "False", v1alpha1.ReasonHostKeyMismatch)},
			nil,
			Health{Level: LevelFailing, Word: "HostKeyMismatch", Message: "About HostKeyMismatch."},
		},
		"it serves with credentials that will not serve again": {
			[]metav1.Condition{ready, condition(v1alpha1.ConditionCredentialsReady, "False", v1alpha1.ReasonCredentialsInvalid)},
			nil,
			Health{Level: LevelWarning, Word: "CredentialsInvalid", Message: "About CredentialsInvalid."},
		},
		"it serves and is stalled": {
			[]metav1.Condition{ready, condition(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAuthenticationFailed)},
			nil,
			Health{Level: LevelWarning, Word: "AuthenticationFailed", Message: "About AuthenticationFailed."},
		},
		"its connections are being made": {
			[]metav1.Condition{condition(v1alpha1.ConditionReady, "False", v1alpha1.ReasonWarming)},
			nil,
			Health{Level: LevelWarming, Word: "Warming", Message: "About Warming."},
		},
		"it is paused": {
			[]metav1.Condition{condition(v1alpha1.ConditionReady, "False", v1alpha1.ReasonPaused)},
			nil,
			Health{Level: LevelPaused, Word: "Paused", Message: "About Paused."},
		},
		"it is ready for this pool, not for another": {
			[]metav1.Condition{condition(v1alpha1.ConditionReady, "False", v1alpha1.ReasonWarming)},
			&v1alpha1.TargetPoolStatus{Ready: new(true)},
			Health{Level: LevelReady, Word: "Ready"},
		},
		"it fails for this pool, not for another": {
			[]metav1.Condition{ready},
			&v1alpha1.TargetPoolStatus{Ready: new(false), Reason: new(v1alpha1.ReasonProbeFailed)},
			Health{Level: LevelFailing, Word: "ProbeFailed", Message: "The newest error."},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			target := v1alpha1.ConnectionTarget{Status: v1alpha1.ConnectionTargetStatus{
				Conditions: test.conditions, LastError: &v1alpha1.TargetError{Reason: v1alpha1.ReasonProbeFailed, Message: "The newest error."},
			}}
			if diff := cmp.Diff(test.want, healthOfTarget(&target, test.share)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPoolThatIsBehindItsTargetsIsNotReady(t *testing.T) {
	pool := &v1alpha1.ConnectionPool{Status: v1alpha1.ConnectionPoolStatus{
		Conditions: []metav1.Condition{condition(v1alpha1.ConditionReady, "True", v1alpha1.ReasonWarm)},
	}}
	lurking := []Member{{Health: Health{Level: LevelReady}}, {Health: Health{Level: LevelWarning}}}
	want := Health{Level: LevelWarning, Word: "Degraded", Message: "1 of 2 targets needs attention."}
	if diff := cmp.Diff(want, healthOfPool(pool, lurking)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := healthOfPool(pool, lurking[:1]); got.Level != LevelReady {
		t.Errorf("with good targets it is %+v", got)
	}
}

func TestATargetWithoutAPoolHasARowOfItsOwn(t *testing.T) {
	lonely := &v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Name: "jump", Namespace: "shop"}}
	pool := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Name: "zoo", Namespace: "shop"},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "other"}},
	}
	facts := Facts{Pools: []*v1alpha1.ConnectionPool{pool}, Targets: []*v1alpha1.ConnectionTarget{lonely}, History: NewHistory()}
	page := facts.Page(Choice{})
	if len(page.Pools) != 2 || page.Pools[1].Name != "" || len(page.Pools[1].Members) != 1 || page.Pools[1].Members[0].Name != "jump" {
		t.Errorf("rows are %+v", page.Pools)
	}
}

func connection(name string, uses, roundTrip int64) livev1alpha1.Connection {
	return livev1alpha1.Connection{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Pool: "web", Target: "web-1", UseCount: uses, RoundTripMicroseconds: roundTrip,
	}
}

func TestUsesPerSecondAreThoseThatHaveEndedLately(t *testing.T) {
	h, k := NewHistory(), Choice{"shop", "web", "web-1"}
	start := time.Unix(1_000_000, 0)
	see := func(second int, connections ...livev1alpha1.Connection) {
		h.Learn(start.Add(time.Duration(second)*time.Second), connections)
	}
	see(0, connection("a", 1000, 0))
	if got := h.rate(k); got != 0 {
		t.Errorf("what was used before the page was opened counts: %v", got)
	}
	see(1, connection("a", 1010, 0))
	see(2, connection("a", 1010, 0), connection("b", 6, 0)) // all uses of b are new
	if got := h.rate(k); got != 8 {
		t.Errorf("16 uses in 2 s are %v per second", got)
	}
	see(3, connection("b", 6, 0)) // a count never falls because a connection left
	see(4, connection("b", 6, 0))
	see(9, connection("b", 6, 0))
	if got := h.rate(k); got != 0 {
		t.Errorf("after 5 quiet seconds: %v per second", got)
	}
	see(60, connection("b", 700, 0)) // no page asked for a while
	if got := h.rate(k); got != 0 {
		t.Errorf("a pause counts as a burst: %v", got)
	}
	see(80)
	if len(h.meters) > 0 || len(h.connections) > 0 {
		t.Errorf("what has gone is remembered: %v %v", h.meters, h.connections)
	}
}

func TestRoundTripsAreRememberedOnceAndBounded(t *testing.T) {
	h := NewHistory()
	for i := range int64(200) {
		h.Learn(time.Unix(i, 0), []livev1alpha1.Connection{connection("a", 0, 400+i/2)})
	}
	c := connection("a", 0, 0)
	got := h.roundTrips(&c)
	if len(got) != mostRoundTrips || got[0] != 460 || got[len(got)-1] != 499 {
		t.Errorf("remembers %d round trips, from %d to %d", len(got), got[0], got[len(got)-1])
	}
}
