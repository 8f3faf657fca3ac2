package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

func condition(kind, status, reason, message string, since int) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: message, LastTransitionTime: *minutesAgo(since),
	}
}

// shop has a pool that is well, one that is degraded, and one that nobody has
// looked at.
func shop(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	ssh := v1alpha1.PoolType("ssh")
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	w.pools = []v1alpha1.ConnectionPool{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop"},
			Spec:       v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "db-1"}},
			Status: v1alpha1.ConnectionPoolStatus{
				Type: &ssh, Targets: v1alpha1.TargetCounts{Total: new(int32(1)), Ready: new(int32(1))},
				Connections: v1alpha1.PoolConnectionCounts{
					Warm: new(int32(2)), InUse: new(int32(0)), Desired: new(int32(2)), Dialing: new(int32(0)), Draining: new(int32(0)),
				},
				UseCount: new(int64(17)), OldestConnectionTime: minutesAgo(52), LastUsedTime: minutesAgo(3),
				Conditions: []metav1.Condition{condition("Ready", "True", "Warm", "All targets have their warm connections.", 180)},
			},
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
			Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: selector},
			Status: v1alpha1.ConnectionPoolStatus{
				Type: &ssh, Targets: v1alpha1.TargetCounts{Total: new(int32(2)), Ready: new(int32(1))},
				Connections: v1alpha1.PoolConnectionCounts{
					Warm: new(int32(1)), InUse: new(int32(1)), Desired: new(int32(2)), Dialing: new(int32(0)), Draining: new(int32(0)),
				},
				UseCount: new(int64(10423)), OldestConnectionTime: minutesAgo(30), LastUsedTime: minutesAgo(0),
				Conditions: []metav1.Condition{
					condition("Ready", "True", "Degraded", "1 of 2 targets is ready.", 180),
					condition("Degraded", "True", "TargetsFailing", "1 of 2 targets lacks its warm connections: web-2.", 12),
				},
				FailingTargets: []v1alpha1.FailingTarget{{Name: "web-2", Reason: "AuthenticationFailed", Since: minutesAgo(12)}},
			},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: "other"}, Spec: v1alpha1.ConnectionPoolSpec{TargetSelector: selector}},
	}
	w.targets = []v1alpha1.ConnectionTarget{
		target("db-1", "db"), target("web-1", "web"), target("web-2", "web"),
	}
	w.targets[2].Status.Conditions = []metav1.Condition{
		condition("Ready", "False", "AuthenticationFailed", "The server refuses the key.\x1b[31m Add its public half to authorized_keys.", 12),
		condition("CredentialsReady", "True", "CredentialsValid", "The Secret can be used.", 180),
		condition("Reachable", "False", "AuthenticationFailed", "The server refuses the key: publickey.", 12),
	}
	w.connections = []livev1alpha1.Connection{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1-7", Namespace: "shop", CreationTimestamp: *minutesAgo(30)},
			Pool:       "web", Target: "web-1", Type: "ssh", State: livev1alpha1.ConnectionInUse, InUse: 2, UseCount: 41,
			LastUsedTime: minutesAgo(1), RoundTripMicroseconds: 480, HandshakeMicroseconds: 33_200,
			RemoteAddress: "10.0.0.7:22", ServerVersion: "SSH-2.0-OpenSSH_9.8\x07", Replica: "connpool-manager-0",
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "db-1-3", Namespace: "shop", CreationTimestamp: *minutesAgo(52)},
			Pool:       "db", Target: "db-1", Type: "ssh", State: livev1alpha1.ConnectionIdle, UseCount: 17,
		},
	}
	return w
}

func target(name, app string) v1alpha1.ConnectionTarget {
	return v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{"app": app}},
		Status: v1alpha1.ConnectionTargetStatus{
			Endpoint:   new("deploy@" + name + ":22"),
			Conditions: []metav1.Condition{condition("Ready", "True", "Warm", "It has its warm connections.", 180)},
			Pools: []v1alpha1.TargetPoolStatus{{
				Name: app, Connections: v1alpha1.ConnectionCounts{Warm: new(int32(1)), InUse: new(int32(0))}, UseCount: new(int64(9)),
			}},
		},
	}
}

// want compares what a command printed, whose first line break is for the eye.
func want(t *testing.T, got result, code int, stdout string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit code %d, want %d", got.code, code)
	}
	if diff := cmp.Diff(strings.TrimPrefix(stdout, "\n"), got.stdout); diff != "" {
		t.Errorf("stdout (-want +got):\n%s\nstderr: %s", diff, got.stderr)
	}
}

// wantStderr asks for words on standard error.
func wantStderr(t *testing.T, got result, code int, words ...string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit code %d, want %d", got.code, code)
	}
	for _, word := range words {
		if !strings.Contains(got.stderr, word) {
			t.Errorf("stderr lacks %q:\n%s", word, got.stderr)
		}
	}
}

func TestStatusTellsOfAllPoolsAndOfWhatFails(t *testing.T) {
	want(t, shop(t).connpool("status"), 0, `
NAME   TYPE   HEALTH     TARGETS   WARM   IN USE   USES    OLDEST   LAST USED
db     ssh    Ready      1/1       2      0        17      52m      3m
web    ssh    Degraded   1/2       1      1        10423   30m      0s

web: Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
  ✘ web-2: AuthenticationFailed for 12m
    The server refuses the key.[31m Add its public half to authorized_keys.
`)
}

func TestStatusOfAllNamespacesNamesThem(t *testing.T) {
	got := shop(t).connpool("status", "-A", "-o", "wide")
	want(t, got, 0, `
NAMESPACE   NAME   TYPE   HEALTH     TARGETS   WARM   IN USE   USES    OLDEST   LAST USED   WANTED   DIALING   DRAINING   SINCE
shop        db     ssh    Ready      1/1       2      0        17      52m      3m          2        0         0          3h
shop        web    ssh    Degraded   1/2       1      1        10423   30m      0s          2        0         0          12m
other       new    -      Unknown    -         -      -        0       -        -           -        -         -          -

shop/web: Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
  ✘ web-2: AuthenticationFailed for 12m
    The server refuses the key.[31m Add its public half to authorized_keys.

other/new: Unknown. The operator has not looked at it yet.
`)
}

func TestStatusOfOnePoolShowsItsTargetsAndTheirConditions(t *testing.T) {
	want(t, shop(t).connpool("status", "web"), 0, `
Pool web (ssh) in namespace shop

Health:      Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
Targets:     1/2 ready
Connections: 1 warm of 2 wanted, 1 in use, 0 dialing, 0 draining, oldest 30m
Uses:        10423, last 0s ago

TARGET   HEALTH                 WARM   IN USE   USES   LAST USED   ENDPOINT
web-1    Ready                  1      0        9      -           deploy@web-1:22
web-2    AuthenticationFailed   1      0        9      -           deploy@web-2:22

✘ web-2: AuthenticationFailed for 12m. The server refuses the key.[31m Add its public half to authorized_keys.
    ✔ CredentialsReady=True for 3h, CredentialsValid: The Secret can be used.
    ✘ Reachable=False for 12m, AuthenticationFailed: The server refuses the key: publickey.
`)
}

func TestStatusForPrograms(t *testing.T) {
	w := shop(t)
	got := w.connpool("status", "web", "-o", "json")
	var report poolReport
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, got.stdout)
	}
	if report.Health != healthDegraded || len(report.Members) != 2 || report.Failing[0].Message == "" {
		t.Errorf("reported %+v", report)
	}
	want(t, w.connpool("status", "-o", "name"), 0, "connectionpool.connpool.dev/db\nconnectionpool.connpool.dev/web\n")
	if got := w.connpool("status", "-o", "yaml"); !strings.HasPrefix(got.stdout, "pools:\n") {
		t.Errorf("yaml is %s", got.stdout)
	}
}

func TestStatusWithoutPools(t *testing.T) {
	got := newWorld(t).connpool("status")
	want(t, got, 0, "")
	wantStderr(t, got, 0, "No pools in namespace shop.")
}

func TestWhoMayNotSeeTargetsStillSeesPools(t *testing.T) {
	w := shop(t)
	w.denied["list connpool.dev/connectiontargets"] = true
	got := w.connpool("status")
	if !strings.Contains(got.stdout, "web-2: AuthenticationFailed for 12m") {
		t.Errorf("stdout is %s", got.stdout)
	}
	wantStderr(t, got, 0, "without details of targets", `resources: ["connectiontargets"]`)
}

func TestConnectionsAreListed(t *testing.T) {
	w := shop(t)
	want(t, w.connpool("connections"), 0, `
NAME      POOL   TARGET   STATE   IN USE   USES   IDLE   RTT     AGE
db-1-3    db     db-1     Idle    0        17     52m    -       52m
web-1-7   web    web-1    InUse   2        41     -      480µs   30m
`)
	want(t, w.connpool("connections", "web", "--state", "inuse", "-o", "wide"), 0, `
NAME      POOL   TARGET   STATE   IN USE   USES   IDLE   RTT     AGE   TYPE   HANDSHAKE   ADDRESS       SERVER                REPLICA
web-1-7   web    web-1    InUse   2        41     -      480µs   30m   ssh    33ms        10.0.0.7:22   SSH-2.0-OpenSSH_9.8   connpool-manager-0
`)
	want(t, w.connpool("connections", "--target", "db-1", "-o", "name"), 0, "connection/db-1-3\n")
	wantStderr(t, w.connpool("connections", "none"), 0, "No connections in namespace shop.")
	wantStderr(t, w.connpool("connections", "--state", "busy"), 1, "Idle, InUse, Draining")

	var list livev1alpha1.ConnectionList
	if err := json.Unmarshal([]byte(w.connpool("connections", "-A", "-o", "json").stdout), &list); err != nil || len(list.Items) != 2 {
		t.Errorf("listed %v, %v", list, err)
	}
}

func TestLongListsAreReadToTheirEnd(t *testing.T) {
	w := shop(t)
	w.answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections"] = func(out http.ResponseWriter, r *http.Request) {
		page := livev1alpha1.ConnectionList{Items: w.connections[:1]}
		page.Continue = "2"
		if r.URL.Query().Get("continue") == "2" {
			page = livev1alpha1.ConnectionList{Items: w.connections[1:]}
		}
		w.answer(out, page)
	}
	if got := w.connpool("connections", "-o", "name"); strings.Count(got.stdout, "\n") != 2 {
		t.Errorf("listed %q", got.stdout)
	}
}

func TestDrainSaysWhatWasDone(t *testing.T) {
	w := shop(t)
	want(t, w.connpool("drain", "web"), 0,
		"Pool web: 2 connections are being replaced; each closes when nothing uses it any more.\n")
	want(t, w.connpool("drain", "connection/web-1-7"), 0,
		"Connection web-1-7 is being replaced; it closes when nothing uses it any more.\n")
	wantStderr(t, w.connpool("drain", "connection/web-1-8"), 1, "kubectl connpool connections")
	wantStderr(t, w.connpool("drain", "wob"), 1, "Did you mean web?")
	wantStderr(t, w.connpool("drain", "target/web-1"), 1, "neither a pool nor connection/NAME")
	w.connections = nil
	want(t, w.connpool("drain", "web"), 0, "Pool web has no connections to replace.\n")
}

func TestCheckExplainsStageByStage(t *testing.T) {
	w := shop(t)
	w.checks["web-1"] = livev1alpha1.CheckStatus{
		Ready: true, RemoteAddress: "10.0.0.7:22", ServerVersion: "SSH-2.0-OpenSSH_9.8",
		Stages: []livev1alpha1.CheckStage{{Name: "resolve", Passed: true, DurationMicroseconds: 1200, Message: "10.0.0.7"}},
	}
	w.checks["web-2"] = livev1alpha1.CheckStatus{
		Stages: []livev1alpha1.CheckStage{
			{Name: "connect", Passed: true, DurationMicroseconds: 320},
			{Name: "authentication", DurationMicroseconds: 41_000, Reason: "AuthenticationFailed", Message: "The key is refused.\x1b]0;x\x07 Add it."},
		},
	}
	want(t, w.connpool("check", "web-1"), 0, `
web-1 is ready at 10.0.0.7:22 (SSH-2.0-OpenSSH_9.8)
  ✔ resolve             1.2ms  10.0.0.7
`)
	want(t, w.connpool("check", "--pool", "web"), 1, `
web-1 is ready at 10.0.0.7:22 (SSH-2.0-OpenSSH_9.8)
  ✔ resolve             1.2ms  10.0.0.7

web-2 is not ready
  ✔ connect             320µs
  ✘ authentication       41ms  AuthenticationFailed: The key is refused.]0;x Add it.
`)
	wantStderr(t, w.connpool("check", "web-3"), 1, "Did you mean web-1 or web-2?")
	wantStderr(t, w.connpool("check"), 1, "name either targets or a pool")
	if got := w.connpool("check", "web-2", "-o", "json"); got.code != 1 || !strings.Contains(got.stdout, `"ready": false`) {
		t.Errorf("got %+v", got)
	}
}
