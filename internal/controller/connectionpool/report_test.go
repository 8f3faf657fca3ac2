package connectionpool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/metrics"
)

// noon is when the condition Ready of the targets last changed.
var noon = metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))

var now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// selecting returns a pool with a selector.
func selecting(changes ...func(*v1alpha1.ConnectionPool)) *v1alpha1.ConnectionPool {
	pool := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "web", UID: "web-uid", Generation: 3},
		Spec: v1alpha1.ConnectionPoolSpec{
			TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"role": "web"}},
		},
	}
	for _, change := range changes {
		change(pool)
	}
	return pool
}

func naming(pool *v1alpha1.ConnectionPool) {
	pool.Spec.TargetSelector, pool.Spec.TargetRef = nil, &v1alpha1.TargetRef{Name: "web-1"}
}

func paused(pool *v1alpha1.ConnectionPool) { pool.Spec.State = new(v1alpha1.PoolPaused) }

func wanting(n int32) func(*v1alpha1.ConnectionPool) {
	return func(pool *v1alpha1.ConnectionPool) { pool.Spec.Size.MinWarm = &n }
}

// ready returns a target that has the connection that the pool wants.
func ready(name string) v1alpha1.ConnectionTarget { return sharing(name, true, "") }

// failing returns a target that lacks the connection for the reason, since noon.
func failing(name, reason string) v1alpha1.ConnectionTarget { return sharing(name, false, reason) }

// parked returns a target that lacks the connection until a person changes something.
func parked(name, reason string) v1alpha1.ConnectionTarget {
	target := failing(name, reason)
	target.Status.Conditions = append(target.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: reason, LastTransitionTime: noon,
	})
	return target
}

// troubled returns a target that has the connection that the pool wants, and a condition
// which says that it could not be made again, for the reason, since noon.
func troubled(name, kind, reason string) v1alpha1.ConnectionTarget {
	target := ready(name)
	state := metav1.ConditionFalse
	if kind == v1alpha1.ConditionStalled {
		state = metav1.ConditionTrue
	}
	target.Status.Conditions = append(target.Status.Conditions,
		metav1.Condition{Type: kind, Status: state, Reason: reason, LastTransitionTime: noon})
	return target
}

func sharing(name string, good bool, reason string) v1alpha1.ConnectionTarget {
	target := known(name, good, reason)
	share := v1alpha1.TargetPoolStatus{
		Name: "web", UID: new(types.UID("web-uid")), Ready: &good, MinWarm: new(int32(1)), Desired: new(int32(1)),
		UseCount: new(int64(10)),
	}
	if good {
		share.Connections = v1alpha1.ConnectionCounts{Warm: new(int32(2)), InUse: new(int32(1)), Dialing: new(int32(0)), Draining: new(int32(1))}
		share.OldestConnectionTime, share.LastUsedTime = &noon, &noon
	} else {
		share.Reason = &reason
	}
	target.Status.Pools = []v1alpha1.TargetPoolStatus{share}
	return target
}

// known returns a target that has a condition Ready and no share of the pool.
func known(name string, good bool, reason string) v1alpha1.ConnectionTarget {
	state := metav1.ConditionFalse
	if good {
		state, reason = metav1.ConditionTrue, v1alpha1.ReasonWarm
	}
	target := unknown(name)
	target.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: state, Reason: reason, LastTransitionTime: noon}}
	return target
}

// unknown returns a target that the operator has not reconciled.
func unknown(name string) v1alpha1.ConnectionTarget {
	return v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name},
		Spec:       v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{}},
	}
}

func summary(t *testing.T, pool *v1alpha1.ConnectionPool, next v1alpha1.ConnectionPoolStatus) (conditions []string, computed kstatus.Status) {
	t.Helper()
	for _, c := range next.Conditions {
		conditions = append(conditions, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	pool.Status = next
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pool)
	if err != nil {
		t.Fatal(err)
	}
	object["apiVersion"], object["kind"] = "connpool.dev/v1alpha1", "ConnectionPool"
	result, err := kstatus.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		t.Fatal(err)
	}
	return conditions, result.Status
}

func TestConditionsOfAPool(t *testing.T) {
	type targets = []v1alpha1.ConnectionTarget
	was := reported(selecting(), targets{ready("web-1")}, v1alpha1.ConnectionPoolStatus{}, now)
	never := v1alpha1.ConnectionPoolStatus{}
	wasAt := func(generation int64) v1alpha1.ConnectionPoolStatus {
		last := *was.DeepCopy()
		last.Conditions[0].ObservedGeneration, last.ObservedGeneration = generation, &generation
		return last
	}
	tests := map[string]struct {
		pool    *v1alpha1.ConnectionPool
		targets targets
		last    v1alpha1.ConnectionPoolStatus
		want    []string
		flux    kstatus.Status
		says    []string
	}{
		"every target has its connections": {
			selecting(),
			targets{ready("web-1"), ready("web-2")},
			never,
			[]string{"Ready=True/Warm"},
			kstatus.CurrentStatus, nil,
		},
		"one of several fails": {
			selecting(),
			targets{ready("web-1"), failing("web-2", "Timeout")},
			never,
			[]string{"Ready=True/Degraded", "Degraded=True/TargetsFailing"},
			kstatus.CurrentStatus,
			[]string{"1 of 2", "web-2 (Timeout)", "kubectl describe connectiontarget web-2"},
		},
		"all fail": {
			selecting(),
			targets{failing("web-1", "Timeout"), failing("web-2", "Unreachable")},
			was,
			[]string{"Ready=False/TargetsFailing", "Degraded=True/TargetsFailing"},
			kstatus.InProgressStatus,
			[]string{"2 of 2", "web-1 (Timeout)", "web-2 (Unreachable)"},
		},
		"all fail and wait for a person": {
			selecting(),
			targets{parked("web-1", "AuthenticationFailed"), parked("web-2", "HostKeyMismatch")},
			never,
			[]string{"Ready=False/TargetsFailing", "Stalled=True/TargetsFailing", "Degraded=True/TargetsFailing"},
			kstatus.FailedStatus,
			[]string{"2 of 2", "web-1 (AuthenticationFailed)"},
		},
		"all fail, and one of them is tried again": {
			selecting(),
			targets{parked("web-1", "AuthenticationFailed"), failing("web-2", "Timeout")},
			never,
			[]string{"Ready=False/TargetsFailing", "Degraded=True/TargetsFailing"},
			kstatus.InProgressStatus, nil,
		},
		"one waits for a person, and one is being connected": {
			selecting(),
			targets{parked("web-1", "AuthenticationFailed"), unknown("web-2")},
			never,
			[]string{"Ready=False/Warming", "Reconciling=True/Warming", "Degraded=True/TargetsFailing"},
			kstatus.InProgressStatus, nil,
		},
		"one lacks its Secret, so that it says nothing of the pool": {
			selecting(),
			targets{ready("web-1"), known("web-2", false, "CredentialsMissing")},
			never,
			[]string{"Ready=True/Degraded", "Degraded=True/TargetsFailing"},
			kstatus.CurrentStatus,
			[]string{"web-2 (CredentialsMissing)"},
		},
		"its targets have not been reconciled": {
			selecting(),
			targets{unknown("web-1")},
			never,
			[]string{"Ready=False/Warming", "Reconciling=True/Warming"},
			kstatus.InProgressStatus,
			[]string{"1 of 1"},
		},
		"its targets do not know yet that they are selected": {
			selecting(),
			targets{known("web-1", false, "NotSelected"), known("web-2", true, "")},
			never,
			[]string{"Ready=False/Warming", "Reconciling=True/Warming"},
			kstatus.InProgressStatus,
			[]string{"2 of 2"},
		},
		"some connections are being made for the first time": {
			selecting(),
			targets{ready("web-1"), failing("web-2", "Warming")},
			never,
			[]string{"Ready=False/Warming", "Reconciling=True/Warming"},
			kstatus.InProgressStatus,
			[]string{"1 of 2"},
		},
		"a target joins a pool that is ready": {
			selecting(),
			targets{ready("web-1"), unknown("web-2")},
			was,
			[]string{"Ready=True/Warm"},
			kstatus.CurrentStatus, nil,
		},
		"it wants more than its targets know": {
			selecting(wanting(2)),
			targets{ready("web-1")},
			never,
			[]string{"Ready=True/Warm", "Reconciling=True/Warming"},
			kstatus.InProgressStatus, nil,
		},
		"its spec has changed since it was ready, and a target has just joined": {
			selecting(),
			targets{ready("web-1"), unknown("web-2")},
			wasAt(2),
			[]string{"Ready=True/Warm"},
			kstatus.CurrentStatus, nil,
		},
		"its spec selects other targets since it was ready": {
			selecting(),
			targets{unknown("web-2")},
			wasAt(2),
			[]string{"Ready=False/Warming", "Reconciling=True/Warming"},
			kstatus.InProgressStatus, nil,
		},
		"a target serves, and its changed credentials are refused": {
			selecting(),
			targets{ready("web-1"), troubled("web-2", v1alpha1.ConditionStalled, "CredentialsInvalid")},
			never,
			[]string{"Ready=True/Warm", "Degraded=True/TargetsFailing"},
			kstatus.CurrentStatus,
			[]string{"every target serves"},
		},
		"a target serves and could not be connected again": {
			selecting(),
			targets{troubled("web-1", v1alpha1.ConditionReachable, "Unreachable")},
			never,
			[]string{"Ready=True/Warm", "Degraded=True/TargetsFailing"},
			kstatus.CurrentStatus,
			nil,
		},
		"the health command of another pool fails": {
			selecting(),
			targets{troubled("web-1", v1alpha1.ConditionReachable, "ProbeFailed")},
			never,
			[]string{"Ready=True/Warm"},
			kstatus.CurrentStatus,
			nil,
		},
		"some connections are being made for the first time, and a target fails": {
			selecting(),
			targets{failing("web-1", "Warming"), failing("web-2", "Timeout")},
			never,
			[]string{"Ready=False/Warming", "Reconciling=True/Warming", "Degraded=True/TargetsFailing"},
			kstatus.InProgressStatus, nil,
		},
		"it is paused": {
			selecting(paused),
			targets{failing("web-1", "Paused")},
			was,
			[]string{"Ready=False/Paused"},
			kstatus.InProgressStatus,
			[]string{"spec.state to Active"},
		},
		"it goes on after a pause": {
			selecting(),
			targets{failing("web-1", "Paused")},
			never,
			[]string{"Ready=False/Warming", "Reconciling=True/Warming"},
			kstatus.InProgressStatus, nil,
		},
		"its selector matches nothing": {
			selecting(), nil, never,
			[]string{"Ready=False/NoTargets"},
			kstatus.InProgressStatus,
			[]string{"targetSelector role=web", "prod", "label one"},
		},
		"its target does not exist": {
			selecting(naming), nil, never,
			[]string{"Ready=False/TargetNotFound"},
			kstatus.InProgressStatus,
			[]string{"web-1", "prod", "targetRef"},
		},
		"its selector cannot be parsed": {
			selecting(func(pool *v1alpha1.ConnectionPool) {
				pool.Spec.TargetSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}
			}), nil, never,
			[]string{"Ready=False/SelectorInvalid", "Stalled=True/SelectorInvalid"},
			kstatus.FailedStatus,
			[]string{"targetSelector", "correct it"},
		},
		"one of its schedules never comes due": {
			selecting(func(pool *v1alpha1.ConnectionPool) {
				pool.Spec.Warming.Schedules = []v1alpha1.WarmingSchedule{
					{Name: "never", Start: "0 0 30 2 *", End: "0 1 30 2 *", MinWarm: 2},
				}
			}),
			targets{ready("web-1")},
			never,
			[]string{"Ready=True/Warm", "Stalled=True/ScheduleInvalid"},
			kstatus.FailedStatus, nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			next := reported(tc.pool, tc.targets, tc.last, now)
			conditions, computed := summary(t, tc.pool.DeepCopy(), next)
			if diff := cmp.Diff(tc.want, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if computed != tc.flux {
				t.Errorf("kstatus says %s, want %s", computed, tc.flux)
			}
			for _, words := range tc.says {
				if message := next.Conditions[0].Message; !strings.Contains(message, words) {
					t.Errorf("message %q lacks %q", message, words)
				}
			}
			if *next.ObservedGeneration != 3 || next.Conditions[0].ObservedGeneration != 3 {
				t.Errorf("generations %d and %d, want 3", *next.ObservedGeneration, next.Conditions[0].ObservedGeneration)
			}
			again := reported(tc.pool, tc.targets, next, now)
			if status.Changed(next.Conditions, again.Conditions) {
				t.Errorf("the same facts change conditions:\n%s", cmp.Diff(next.Conditions, again.Conditions))
			}
		})
	}
}

func TestAPausedPoolHasNoFailingTargets(t *testing.T) {
	next := reported(selecting(paused), []v1alpha1.ConnectionTarget{failing("web-1", "Paused")}, v1alpha1.ConnectionPoolStatus{}, now)
	if len(next.FailingTargets) != 0 {
		t.Errorf("failing %+v, want none", next.FailingTargets)
	}
}

func TestFailingTargetsAreListedOldestFirstAndAtMostTen(t *testing.T) {
	var targets []v1alpha1.ConnectionTarget
	for i := range 12 {
		target := failing(fmt.Sprintf("web-%02d", i), "Timeout")
		target.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-time.Duration(i) * time.Minute))
		targets = append(targets, target)
	}
	next := reported(selecting(), targets, v1alpha1.ConnectionPoolStatus{}, now)
	if len(next.FailingTargets) != 10 {
		t.Fatalf("%d listed, want 10", len(next.FailingTargets))
	}
	first := next.FailingTargets[0]
	if first.Name != "web-11" || first.Reason != "Timeout" || !first.Since.Equal(new(metav1.NewTime(noon.Add(-11*time.Minute)))) {
		t.Errorf("first %+v, want the one that fails longest", first)
	}
	message := next.Conditions[0].Message
	if !strings.Contains(message, "12 of 12") || !strings.Contains(message, "web-02 (Timeout), 9 more") {
		t.Errorf("message %q, want three names and 9 more", message)
	}
}

func TestCountersAddUpOverTheTargets(t *testing.T) {
	late := ready("web-2")
	late.Status.Pools[0].OldestConnectionTime = new(metav1.NewTime(noon.Add(time.Hour)))
	late.Status.Pools[0].LastUsedTime = new(metav1.NewTime(noon.Add(time.Hour)))
	next := reported(selecting(), []v1alpha1.ConnectionTarget{ready("web-1"), late, unknown("web-3")}, v1alpha1.ConnectionPoolStatus{}, now)
	want := v1alpha1.ConnectionPoolStatus{
		Type:        new(v1alpha1.PoolType("ssh")),
		Summary:     new("Warming"),
		Targets:     v1alpha1.TargetCounts{Total: new(int32(3)), Ready: new(int32(2)), Failing: new(int32(0))},
		Connections: v1alpha1.PoolConnectionCounts{Warm: new(int32(4)), InUse: new(int32(2)), Dialing: new(int32(0)), Draining: new(int32(2)), Desired: new(int32(3)), WarmPerTarget: new(int32(1))},
		UseCount:    new(int64(20)), OldestConnectionTime: &noon, LastUsedTime: late.Status.Pools[0].LastUsedTime,
		Selector: new("connpool.dev/connectionpool-uid=web-uid"), ObservedGeneration: new(int64(3)),
	}
	next.Conditions = nil
	if diff := cmp.Diff(want, next); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestATargetOfANamesakePoolDoesNotCount(t *testing.T) {
	pool := selecting()
	pool.UID = "another-uid"
	next := reported(pool, []v1alpha1.ConnectionTarget{ready("web-1")}, v1alpha1.ConnectionPoolStatus{}, now)
	if *next.Targets.Ready != 0 || *next.UseCount != 0 {
		t.Errorf("%d ready, %d uses; want none", *next.Targets.Ready, *next.UseCount)
	}
}

func TestThePoolsTypeIsThatOfItsTargets(t *testing.T) {
	docker := unknown("build")
	docker.Spec = v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{}}
	tests := map[string]struct {
		targets []v1alpha1.ConnectionTarget
		want    *v1alpha1.PoolType
	}{
		"none":       {nil, nil},
		"one type":   {[]v1alpha1.ConnectionTarget{docker, docker}, new(v1alpha1.PoolType("docker"))},
		"both types": {[]v1alpha1.ConnectionTarget{unknown("web"), docker, docker}, new(v1alpha1.PoolTypeMixed)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, typeOf(tc.targets)); diff != "" {
				t.Errorf("type (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATransitionKeepsItsTimeAsLongAsTheStatusStays(t *testing.T) {
	last := reported(selecting(), []v1alpha1.ConnectionTarget{ready("web-1")}, v1alpha1.ConnectionPoolStatus{}, now)
	last.Conditions[0].LastTransitionTime = noon
	same := reported(selecting(), []v1alpha1.ConnectionTarget{ready("web-1"), failing("web-2", "Timeout")}, last, now)
	if got := meta.FindStatusCondition(same.Conditions, v1alpha1.ConditionReady).LastTransitionTime; !got.Equal(&noon) {
		t.Errorf("ready still, but since %s", got)
	}
	other := reported(selecting(), []v1alpha1.ConnectionTarget{failing("web-1", "Timeout")}, last, now)
	if got := meta.FindStatusCondition(other.Conditions, v1alpha1.ConditionReady).LastTransitionTime; got.Equal(&noon) {
		t.Error("not ready any more, but the time stayed")
	}
}

func TestAPoolThatAsksForLessIsReadyAtOnce(t *testing.T) {
	many := ready("web-1")
	many.Status.Pools[0].MinWarm = new(int32(3))
	next := reported(selecting(), []v1alpha1.ConnectionTarget{many}, v1alpha1.ConnectionPoolStatus{}, now)
	if got := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionReady); got.Status != metav1.ConditionTrue {
		t.Errorf("Ready is %s for %s, although the target has more than is asked for", got.Status, got.Reason)
	}
}

// reported returns the status that is reported of the pool.
func reported(
	pool *v1alpha1.ConnectionPool, targets []v1alpha1.ConnectionTarget, last v1alpha1.ConnectionPoolStatus, now time.Time,
) v1alpha1.ConnectionPoolStatus {
	next, _ := Report(pool, targets, last, now)
	return next
}

func TestTheColumnStatusSaysWhatAPersonHasToChange(t *testing.T) {
	type targets = []v1alpha1.ConnectionTarget
	never := []v1alpha1.WarmingSchedule{{Name: "never", Start: "0 0 30 2 *", End: "0 1 30 2 *", MinWarm: 2}}
	credentials := troubled("web-2", v1alpha1.ConditionStalled, "CredentialsInvalid")
	tests := map[string]struct {
		pool    *v1alpha1.ConnectionPool
		targets targets
		want    string
	}{
		"all is well":                   {selecting(), targets{ready("web-1")}, "Warm"},
		"credentials of a warm target":  {selecting(), targets{ready("web-1"), credentials}, "Warm,CredentialsInvalid"},
		"the network of a warm target":  {selecting(), targets{troubled("web-1", v1alpha1.ConditionReachable, "Timeout")}, "Warm,TargetsFailing"},
		"the network of a cold target":  {selecting(), targets{ready("web-1"), failing("web-2", "Timeout")}, "Degraded"},
		"no target serves":              {selecting(), targets{failing("web-2", "Timeout")}, "TargetsFailing"},
		"a schedule that never is due":  {selecting(func(p *v1alpha1.ConnectionPool) { p.Spec.Warming.Schedules = never }), targets{ready("web-1")}, "Warm,ScheduleInvalid"},
		"credentials in a paused pool":  {selecting(paused), targets{credentials}, "Paused,CredentialsInvalid"},
		"both a schedule and a target":  {selecting(func(p *v1alpha1.ConnectionPool) { p.Spec.Warming.Schedules = never }), targets{credentials}, "Warm,ScheduleInvalid,CredentialsInvalid"},
		"a pool whose selector matches": {selecting(), nil, "NoTargets"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			next := reported(tc.pool, tc.targets, v1alpha1.ConnectionPoolStatus{}, now)
			if *next.Summary != tc.want {
				t.Errorf("STATUS is %s, want %s", *next.Summary, tc.want)
			}
		})
	}
}

func TestATargetThatServesAndFailsIsListedWithItsReason(t *testing.T) {
	next, failing := Report(selecting(), []v1alpha1.ConnectionTarget{
		ready("web-1"), troubled("web-2", v1alpha1.ConditionStalled, "CredentialsInvalid"),
	}, v1alpha1.ConnectionPoolStatus{}, now)
	want := []v1alpha1.FailingTarget{{Name: "web-2", Reason: "CredentialsInvalid", Since: &noon, Serving: new(true)}}
	if diff := cmp.Diff(want, next.FailingTargets); diff != "" {
		t.Errorf("failing targets (-want +got):\n%s", diff)
	}
	if *next.Targets.Ready != 2 || *next.Targets.Failing != 1 {
		t.Errorf("%d ready, %d failing; want 2 and 1", *next.Targets.Ready, *next.Targets.Failing)
	}
	degraded := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionDegraded)
	if words := "1 of 2 targets fail: web-2 (CredentialsInvalid, still serves)"; !strings.Contains(degraded.Message, words) {
		t.Errorf("message %q lacks %q", degraded.Message, words)
	}
	counts := map[metrics.Failing]int{{Kind: "ssh", Reason: "CredentialsInvalid", Stalled: true, Serving: true}: 1}
	if diff := cmp.Diff(counts, failing); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

func TestTheReplicasOfScaleAreInTheUnitOfMinWarm(t *testing.T) {
	tests := map[string]struct{ warm, targets, want int }{
		"3 on each of 12":           {36, 12, 3},
		"one of them is replaced":   {35, 12, 3},
		"a target has grown by one": {37, 12, 3},
		"half of the targets fail":  {18, 12, 2},
		"paused":                    {0, 12, 0},
		"no targets":                {0, 0, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := perTarget(int32(tc.warm), tc.targets); int(got) != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

func TestFiguresThatCameToRestAreNotable(t *testing.T) {
	figures := func(warm, dialing, draining, desired int32) v1alpha1.ConnectionPoolStatus {
		return v1alpha1.ConnectionPoolStatus{Connections: v1alpha1.PoolConnectionCounts{
			Warm: &warm, Dialing: &dialing, Draining: &draining, Desired: &desired,
		}}
	}
	tests := map[string]struct {
		last, next v1alpha1.ConnectionPoolStatus
		want       bool
	}{
		"dialing has ended":                  {figures(1, 2, 0, 3), figures(3, 0, 0, 3), true},
		"dialing goes on":                    {figures(1, 2, 0, 3), figures(2, 1, 0, 3), false},
		"draining has ended after a pause":   {figures(3, 0, 0, 3), figures(0, 0, 0, 0), true},
		"one drains still":                   {figures(3, 0, 0, 3), figures(0, 0, 1, 0), false},
		"a lost connection waits for a dial": {figures(3, 0, 0, 3), figures(2, 0, 0, 3), false},
		"a replaced one is as good":          {figures(3, 0, 0, 3), figures(3, 0, 0, 3), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := isNotable(tc.last, tc.next); got != tc.want {
				t.Errorf("notable: %t, want %t", got, tc.want)
			}
		})
	}
}
