package connectiontarget

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

func seenBy(pool string, health poolset.HealthState, warm int, changes ...func(*poolset.PoolObservation)) poolset.PoolObservation {
	o := poolset.PoolObservation{
		Pool:    poolset.Ref{UID: pool + "-uid", Namespace: "prod", Name: pool},
		MinWarm: 1, Health: health, Stats: connpool.Stats{Idle: warm},
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func failing(reason driver.Reason) func(*poolset.PoolObservation) {
	return func(o *poolset.PoolObservation) {
		o.Err = &driver.Error{Reason: reason, Stage: driver.StageConnect, Message: "it said no; try something else"}
	}
}

func refused(reason driver.Reason) func(*poolset.PoolObservation) {
	return func(o *poolset.PoolObservation) {
		o.Rotation.Pending = true
		o.Rotation.Err = &driver.Error{Reason: reason, Stage: driver.StageAuthentication, Message: "it said no; try something else"}
	}
}

func pausedPool(o *poolset.PoolObservation) { o.Paused, o.MinWarm = true, 0 }

func onDemand(o *poolset.PoolObservation) { o.MinWarm = 0 }

// wasReady returns the last status of a target that was ready for pool p.
func wasReady() v1alpha1.ConnectionTargetStatus {
	f := complete()
	return report(f, decide(f, sshOnly), observation(seenBy("p", poolset.HealthUp, 1)), v1alpha1.ConnectionTargetStatus{}, "replica")
}

func observation(pools ...poolset.PoolObservation) poolset.Observation {
	return poolset.Observation{ServerVersion: "OpenSSH", Pools: pools}
}

// summary returns the conditions as "Type=Status/Reason", and what kstatus computes
// from them.
func summary(t *testing.T, next v1alpha1.ConnectionTargetStatus) (conditions []string, computed kstatus.Status) {
	t.Helper()
	for _, c := range next.Conditions {
		conditions = append(conditions, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	target := sshTarget("web")
	target.Status = next
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(target)
	if err != nil {
		t.Fatal(err)
	}
	object["apiVersion"], object["kind"] = "connpool.dev/v1alpha1", "ConnectionTarget"
	result, err := kstatus.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		t.Fatal(err)
	}
	return conditions, result.Status
}

func TestConditionsOfATarget(t *testing.T) {
	ready := wasReady()
	never := v1alpha1.ConnectionTargetStatus{}
	onDemandReady := *ready.DeepCopy()
	onDemandReady.Pools[0].MinWarm = new(int32(0))
	refusal := func(decided *decision) {
		decided.problem = &problem{
			condition: v1alpha1.ConditionCredentialsReady, reason: v1alpha1.ReasonCredentialsInvalid,
			message: "cannot be parsed; correct it",
		}
	}
	const valid, connected, warm = "CredentialsReady=True/CredentialsValid", "Reachable=True/Connected", "Ready=True/Warm"
	tests := map[string]struct {
		change func(*facts)
		decide func(*decision)
		last   v1alpha1.ConnectionTargetStatus
		seen   []poolset.PoolObservation
		want   []string
		flux   kstatus.Status
	}{
		"no pool selects it": {
			change: func(f *facts) { f.pools = nil },
			want:   []string{"CredentialsReady=Unknown/NotSelected", "Reachable=Unknown/NotSelected", "Ready=False/NotSelected"},
			flux:   kstatus.InProgressStatus,
		},
		"its Secret is missing": {
			change: func(f *facts) { f.path[0].secret = nil },
			want: []string{
				"CredentialsReady=False/CredentialsMissing", "Reachable=Unknown/CredentialsMissing",
				"Ready=False/CredentialsMissing", "Stalled=True/CredentialsMissing",
			},
			flux: kstatus.FailedStatus,
		},
		"its jump hosts form a cycle": {
			change: through("web"),
			want: []string{
				"CredentialsReady=Unknown/JumpTargetInvalid", "Reachable=False/JumpTargetInvalid",
				"Ready=False/JumpTargetInvalid", "Stalled=True/JumpTargetInvalid",
			},
			flux: kstatus.FailedStatus,
		},
		"its keys are being prepared": {
			decide: func(decided *decision) { decided.problem = &problem{reason: v1alpha1.ReasonPending, message: "wait"} },
			want: []string{
				"CredentialsReady=Unknown/Pending", "Reachable=Unknown/Pending", "Ready=False/Pending", "Reconciling=True/Pending",
			},
			flux: kstatus.InProgressStatus,
		},
		"its changed keys are being prepared while the earlier ones serve": {
			decide: func(decided *decision) { decided.problem = &problem{reason: v1alpha1.ReasonPending, message: "wait"} },
			last:   ready,
			seen:   []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1)},
			want:   []string{"CredentialsReady=Unknown/Pending", connected, warm, "Reconciling=True/Pending"},
			flux:   kstatus.InProgressStatus,
		},
		"its Secret cannot be used": {
			decide: refusal,
			want: []string{
				"CredentialsReady=False/CredentialsInvalid", "Reachable=Unknown/CredentialsInvalid",
				"Ready=False/CredentialsInvalid", "Stalled=True/CredentialsInvalid",
			},
			flux: kstatus.FailedStatus,
		},
		"its Secret cannot be used any more, earlier connections serve": {
			decide: refusal, last: ready,
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1)},
			want: []string{"CredentialsReady=False/CredentialsInvalid", connected, warm, "Stalled=True/CredentialsInvalid"},
			flux: kstatus.FailedStatus,
		},
		"nothing is observed yet": {
			want: []string{valid, "Reachable=Unknown/Pending", "Ready=Unknown/Pending"},
			flux: kstatus.InProgressStatus,
		},
		"the first dial runs": {
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUnknown, 0)},
			want: []string{valid, "Reachable=Unknown/Pending", "Ready=False/Warming", "Reconciling=True/Warming"},
			flux: kstatus.InProgressStatus,
		},
		"it is warm": {
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1)},
			want: []string{valid, connected, warm}, flux: kstatus.CurrentStatus,
		},
		"a connection of a good target is being replaced": {
			last: ready, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 0)},
			want: []string{valid, connected, warm}, flux: kstatus.CurrentStatus,
		},
		"it does not answer": {
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 0, failing(driver.Unreachable))},
			want: []string{valid, "Reachable=False/Unreachable", "Ready=False/Unreachable", "Reconciling=True/Retrying"},
			flux: kstatus.InProgressStatus,
		},
		"it refuses the key": {
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 0, failing(driver.AuthenticationFailed))},
			want: []string{valid, "Reachable=False/AuthenticationFailed", "Ready=False/AuthenticationFailed", "Stalled=True/AuthenticationFailed"},
			flux: kstatus.FailedStatus,
		},
		"it takes no more connections, those it has serve (F03)": {
			last: ready, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(driver.Unreachable))},
			want: []string{valid, "Reachable=False/Unreachable", warm}, flux: kstatus.CurrentStatus,
		},
		"it was down and has connections again, which may not last (F35)": {
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(driver.Unreachable))},
			want: []string{valid, "Reachable=False/Unreachable", "Ready=False/Unreachable", "Reconciling=True/Retrying"},
			flux: kstatus.InProgressStatus,
		},
		"its health command fails": {
			last: ready, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(driver.ProbeFailed))},
			want: []string{valid, "Reachable=False/ProbeFailed", "Ready=False/ProbeFailed", "Reconciling=True/Retrying"},
			flux: kstatus.InProgressStatus,
		},
		"changed credentials are being tried": {
			last: ready, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1, func(o *poolset.PoolObservation) { o.Rotation.Pending = true })},
			want: []string{valid, connected, warm, "Reconciling=True/Rotating"}, flux: kstatus.InProgressStatus,
		},
		"changed credentials are refused, earlier connections serve (F15)": {
			last: ready, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1, refused(driver.AuthenticationFailed))},
			want: []string{"CredentialsReady=False/CredentialsInvalid", connected, warm, "Stalled=True/CredentialsInvalid"},
			flux: kstatus.FailedStatus,
		},
		"changed credentials could not be tried, because nothing answers": {
			last: ready, seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1, refused(driver.Unreachable))},
			want: []string{valid, connected, warm, "Reconciling=True/Rotating"}, flux: kstatus.InProgressStatus,
		},
		"its only pool is paused": {
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUnknown, 0, pausedPool)},
			want: []string{valid, "Reachable=Unknown/Pending", "Ready=False/Paused"}, flux: kstatus.InProgressStatus,
		},
		"one of its pools is paused": {
			seen: []poolset.PoolObservation{seenBy("a", poolset.HealthUnknown, 0, pausedPool), seenBy("p", poolset.HealthUp, 1)},
			want: []string{valid, connected, warm}, flux: kstatus.CurrentStatus,
		},
		"one of its pools is new": {
			last: ready, seen: []poolset.PoolObservation{seenBy("a", poolset.HealthUnknown, 0), seenBy("p", poolset.HealthUp, 1)},
			want: []string{valid, connected, "Ready=False/Warming", "Reconciling=True/Warming"}, flux: kstatus.InProgressStatus,
		},
		"its pool dials on demand only": {
			change: func(f *facts) { f.pools[0].Spec.Size.MinWarm = new(int32(0)) },
			seen:   []poolset.PoolObservation{seenBy("p", poolset.HealthUnknown, 0, onDemand)},
			want:   []string{valid, "Reachable=Unknown/Pending", warm}, flux: kstatus.CurrentStatus,
		},
		"its pool wants one connection more": {
			change: func(f *facts) { f.pools[0].Spec.Size.MinWarm = new(int32(2)) }, last: ready,
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1, func(o *poolset.PoolObservation) { o.MinWarm = 2 })},
			want: []string{valid, connected, warm, "Reconciling=True/Warming"}, flux: kstatus.InProgressStatus,
		},
		"the one connection more cannot be made": {
			change: func(f *facts) { f.pools[0].Spec.Size.MinWarm = new(int32(2)) }, last: ready,
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(driver.Timeout))},
			want: []string{valid, "Reachable=False/Timeout", warm}, flux: kstatus.CurrentStatus,
		},
		"its pool wants its first connection": {
			last: onDemandReady,
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthUnknown, 0)},
			want: []string{valid, connected, warm, "Reconciling=True/Warming"}, flux: kstatus.InProgressStatus,
		},
		"the server refuses the key now, the connections that live serve": {
			last: ready,
			seen: []poolset.PoolObservation{seenBy("p", poolset.HealthDown, 1, failing(driver.AuthenticationFailed))},
			want: []string{valid, "Reachable=False/AuthenticationFailed", warm, "Stalled=True/AuthenticationFailed"},
			flux: kstatus.FailedStatus,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := complete()
			if tc.change != nil {
				tc.change(&f)
			}
			decided := decide(f, sshOnly)
			if tc.decide != nil {
				tc.decide(&decided)
			}
			last := never
			if tc.last.ObservedGeneration != nil {
				last = tc.last
			}
			next := report(f, decided, observation(tc.seen...), last, "replica")
			conditions, computed := summary(t, next)
			if diff := cmp.Diff(tc.want, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if computed != tc.flux {
				t.Errorf("kstatus says %s, want %s", computed, tc.flux)
			}
			checkForm(t, next)
			again := report(f, decided, observation(tc.seen...), next, "replica")
			if status.Changed(next.Conditions, again.Conditions) {
				t.Errorf("the same facts change conditions:\n%s", cmp.Diff(next.Conditions, again.Conditions))
			}
		})
	}
}

var timestamp = regexp.MustCompile(`\d\d:\d\d|20\d\d-`)

// checkForm checks what holds for every status.
func checkForm(t *testing.T, next v1alpha1.ConnectionTargetStatus) {
	t.Helper()
	if next.ObservedGeneration == nil || *next.ObservedGeneration != 3 {
		t.Errorf("observedGeneration %v, want 3", next.ObservedGeneration)
	}
	for _, c := range next.Conditions {
		if c.ObservedGeneration != 3 || c.LastTransitionTime.IsZero() || c.Reason == "" || c.Message == "" {
			t.Errorf("incomplete condition %+v", c)
		}
		if timestamp.MatchString(c.Message) {
			t.Errorf("%s carries a timestamp: %q", c.Type, c.Message)
		}
	}
	raw, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), canary) {
		t.Errorf("a secret is in the status: %s", raw)
	}
}

func TestATransitionKeepsItsTimeAsLongAsTheStatusStays(t *testing.T) {
	f := complete()
	last := wasReady()
	long := metav1.NewTime(time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC).Add(-time.Hour).Truncate(time.Second))
	for i := range last.Conditions {
		last.Conditions[i].LastTransitionTime = long
	}
	down := seenBy("p", poolset.HealthDown, 0, failing(driver.Timeout))
	next := report(f, decide(f, sshOnly), observation(down), last, "replica")
	for kind, kept := range map[string]bool{
		v1alpha1.ConditionCredentialsReady: true, v1alpha1.ConditionReachable: false, v1alpha1.ConditionReady: false,
	} {
		c := meta.FindStatusCondition(next.Conditions, kind)
		if got := c.LastTransitionTime.Equal(&long); got != kept {
			t.Errorf("%s kept its time: %v, want %v", kind, got, kept)
		}
	}
}

func TestCountersAddUpOverThePools(t *testing.T) {
	early := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	stats := func(s connpool.Stats) func(*poolset.PoolObservation) {
		return func(o *poolset.PoolObservation) { o.Stats = s }
	}
	f := complete()
	next := report(f, decide(f, sshOnly), observation(
		seenBy("q", poolset.HealthUp, 0, stats(connpool.Stats{Idle: 1, InUse: 2, Dialing: 3, Draining: 4, Uses: 5, Oldest: early, LastUsed: early})),
		seenBy("p", poolset.HealthUp, 0, stats(connpool.Stats{Idle: 1, Uses: 7, Oldest: early.Add(time.Hour), LastUsed: early.Add(time.Hour)})),
	), v1alpha1.ConnectionTargetStatus{}, "replica")
	if next.Pools[0].Name != "p" || next.Pools[1].Name != "q" {
		t.Errorf("pools %s, %s; want them by name", next.Pools[0].Name, next.Pools[1].Name)
	}
	want := v1alpha1.ConnectionCounts{Warm: new(int32(4)), InUse: new(int32(2)), Dialing: new(int32(3)), Draining: new(int32(4))}
	if diff := cmp.Diff(want, next.Connections); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if !next.OldestConnectionTime.Time.Equal(early) || !next.LastUsedTime.Time.Equal(early.Add(time.Hour)) {
		t.Errorf("oldest %s, last used %s", next.OldestConnectionTime, next.LastUsedTime)
	}
	if *next.Replica != "replica" || *next.ServerVersion != "OpenSSH" || *next.Endpoint != "deploy@web.example.com:22" || *next.Type != "ssh" {
		t.Errorf("replica %s, server %s, endpoint %s, type %s", *next.Replica, *next.ServerVersion, *next.Endpoint, *next.Type)
	}
}

func TestTheServerVersionIsRememberedForTheSameEndpointOnly(t *testing.T) {
	f := complete()
	last := wasReady()
	next := report(f, decide(f, sshOnly), poolset.Observation{}, last, "replica")
	if ptr.Deref(next.ServerVersion, "") != "OpenSSH" {
		t.Errorf("server version %v, want the last one", next.ServerVersion)
	}
	f.target.Spec.SSH.Host = "elsewhere"
	if next := report(f, decide(f, sshOnly), poolset.Observation{}, last, "replica"); next.ServerVersion != nil {
		t.Errorf("server version %s, want none of another host", *next.ServerVersion)
	}
}

func TestAWarningAboutWhatIsNotUsedStandsInTheCondition(t *testing.T) {
	f := complete()
	seen := observation(seenBy("p", poolset.HealthUp, 1))
	seen.Warning = "hostKeys are used without some lines: line 2 is not a host key"
	next := report(f, decide(f, sshOnly), seen, v1alpha1.ConnectionTargetStatus{}, "replica")
	condition := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionCredentialsReady)
	if condition.Status != metav1.ConditionTrue || !strings.Contains(condition.Message, seen.Warning) {
		t.Errorf("%s: %q, want True and the warning", condition.Status, condition.Message)
	}
}

func TestTheLastErrorFitsTheAPI(t *testing.T) {
	long := &driver.Error{Reason: driver.JumpTargetNotReady, Message: strings.Repeat("ü", 1000)}
	tests := map[string]struct {
		found *problem
		pools []poolset.PoolObservation
		want  *v1alpha1.TargetError
	}{
		"nothing failed": {nil, []poolset.PoolObservation{{}}, nil},
		"a dial failed": {
			nil,
			[]poolset.PoolObservation{seenBy("p", poolset.HealthDown, 0, failing(driver.Timeout))},
			&v1alpha1.TargetError{Reason: "Timeout", Stage: new("connect"), Message: "it said no; try something else"},
		},
		"new credentials failed": {
			nil,
			[]poolset.PoolObservation{seenBy("p", poolset.HealthUp, 1, refused(driver.AuthenticationFailed))},
			&v1alpha1.TargetError{Reason: "AuthenticationFailed", Stage: new("authentication"), Message: "it said no; try something else"},
		},
		"something is missing": {
			&problem{condition: "x", reason: "CredentialsMissing", message: "create it"}, nil,
			&v1alpha1.TargetError{Reason: "CredentialsMissing", Message: "create it"},
		},
		"not being selected is no error": {&problem{reason: "NotSelected", message: "select it"}, nil, nil},
		"the message of a driver is empty": {
			nil,
			[]poolset.PoolObservation{{Err: &driver.Error{Reason: driver.Timeout}}},
			&v1alpha1.TargetError{Reason: "Timeout", Message: "Timeout"},
		},
		"the message of a driver is too long": {
			nil,
			[]poolset.PoolObservation{{Err: long}},
			&v1alpha1.TargetError{Reason: "JumpTargetNotReady", Message: strings.Repeat("ü", 510) + "..."},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := lastError(tc.found, tc.pools)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("last error (-want +got):\n%s", diff)
			}
			if got != nil && len(got.Message) > maxErrorMessage {
				t.Errorf("%d bytes", len(got.Message))
			}
		})
	}
}

func TestARestartOfTheOperatorChangesNoCondition(t *testing.T) {
	f := complete()
	last := wasReady()
	next := report(f, decide(f, sshOnly), observation(seenBy("p", poolset.HealthUnknown, 0)), last, "replica")
	if status.Changed(last.Conditions, next.Conditions) {
		t.Errorf("before the first dial has ended: %v, was %v", next.Conditions, last.Conditions)
	}
	f.target.Generation++
	next = report(f, decide(f, sshOnly), observation(seenBy("p", poolset.HealthUnknown, 0)), last, "replica")
	if ready := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionReady); ready.Status != metav1.ConditionFalse {
		t.Errorf("another spec inherits %s for %s", ready.Status, ready.Reason)
	}
}

func TestAPoolWhoseDialsFailDoesNotStayReady(t *testing.T) {
	f := complete()
	losing := func(o *poolset.PoolObservation) { o.Dial.Failures = 1 }
	next := report(f, decide(f, sshOnly), observation(seenBy("p", poolset.HealthUp, 0, losing)), wasReady(), "replica")
	if *next.Pools[0].Ready {
		t.Error("without a connection, and with a failed dial, the target is still ready")
	}
}

func TestOnlyTheWayToTheFirstVerdictIsAnArrival(t *testing.T) {
	status := func(ready metav1.ConditionStatus, reason string, others ...metav1.Condition) v1alpha1.ConnectionTargetStatus {
		return v1alpha1.ConnectionTargetStatus{Conditions: append(others,
			metav1.Condition{Type: v1alpha1.ConditionReady, Status: ready, Reason: reason})}
	}
	warming := status(metav1.ConditionFalse, v1alpha1.ReasonWarming)
	unreachable := metav1.Condition{Type: v1alpha1.ConditionReachable, Status: metav1.ConditionFalse, Reason: "Timeout"}
	for name, tc := range map[string]struct {
		last, next v1alpha1.ConnectionTargetStatus
		want       bool
	}{
		"new":                          {v1alpha1.ConnectionTargetStatus{}, warming, true},
		"a pool selects it now":        {status(metav1.ConditionFalse, v1alpha1.ReasonNotSelected), warming, true},
		"its credentials are prepared": {v1alpha1.ConnectionTargetStatus{}, status(metav1.ConditionUnknown, v1alpha1.ReasonPending), true},
		"it is ready":                  {warming, status(metav1.ConditionTrue, v1alpha1.ReasonWarm), false},
		"it served before":             {status(metav1.ConditionTrue, v1alpha1.ReasonWarm), warming, false},
		"it failed before":             {status(metav1.ConditionFalse, "Timeout"), warming, false},
		"it fails":                     {warming, status(metav1.ConditionFalse, "Timeout"), false},
		"it fails on the way":          {v1alpha1.ConnectionTargetStatus{}, status(metav1.ConditionFalse, v1alpha1.ReasonWarming, unreachable), false},
		"no pool selects it":           {v1alpha1.ConnectionTargetStatus{}, status(metav1.ConditionFalse, v1alpha1.ReasonNotSelected), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isArrival(tc.last, tc.next); got != tc.want {
				t.Errorf("arrival: %t, want %t", got, tc.want)
			}
		})
	}
}
