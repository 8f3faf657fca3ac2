package clitest

import (
	"testing"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/plugin"
)

func condition(kind, status, reason, message string, since int) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: message, LastTransitionTime: *MinutesAgo(since),
	}
}

// Shop returns a cluster with a pool that is healthy, one that is degraded, and one
// that the operator has not looked at.
func Shop(t *testing.T, commands ...func(*plugin.Factory) *cobra.Command) *Fixture {
	t.Helper()
	f := New(t, commands...)
	ssh := v1alpha1.PoolType("ssh")
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	f.Pools = []v1alpha1.ConnectionPool{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop"},
			Spec:       v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "db-1"}},
			Status: v1alpha1.ConnectionPoolStatus{
				Type: &ssh, Targets: v1alpha1.TargetCounts{Total: new(int32(1)), Ready: new(int32(1))},
				Connections: v1alpha1.PoolConnectionCounts{
					Warm: new(int32(2)), InUse: new(int32(0)), Desired: new(int32(2)), Dialing: new(int32(0)), Draining: new(int32(0)),
				},
				UseCount: new(int64(17)), OldestConnectionTime: MinutesAgo(52), LastUsedTime: MinutesAgo(3),
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
				UseCount: new(int64(10423)), OldestConnectionTime: MinutesAgo(30), LastUsedTime: MinutesAgo(0),
				Conditions: []metav1.Condition{
					condition("Ready", "True", "Degraded", "1 of 2 targets is ready.", 180),
					condition("Degraded", "True", "TargetsFailing", "1 of 2 targets lacks its warm connections: web-2.", 12),
				},
				FailingTargets: []v1alpha1.FailingTarget{{Name: "web-2", Reason: "AuthenticationFailed", Since: MinutesAgo(12)}},
			},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: "other"}, Spec: v1alpha1.ConnectionPoolSpec{TargetSelector: selector}},
	}
	f.Targets = []v1alpha1.ConnectionTarget{
		Target("db-1", "db"), Target("web-1", "web"), Target("web-2", "web"),
	}
	f.Targets[2].Status.Conditions = []metav1.Condition{
		condition("Ready", "False", "AuthenticationFailed",
			"The server refuses the key.\x1b[31m Add its public half to authorized_keys.", 12),
		condition("CredentialsReady", "True", "CredentialsValid", "The Secret can be used.", 180),
		condition("Reachable", "False", "AuthenticationFailed", "The server refuses the key: publickey.", 12),
	}
	f.Connections = []livev1alpha1.Connection{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1-7", Namespace: "shop", CreationTimestamp: *MinutesAgo(30)},
			Pool:       "web", Target: "web-1", Type: "ssh", State: livev1alpha1.ConnectionInUse, InUse: 2, UseCount: 41,
			LastUsedTime: MinutesAgo(1), RoundTripMicroseconds: 480, HandshakeMicroseconds: 33_200,
			RemoteAddress: "10.0.0.7:22", ServerVersion: "SSH-2.0-OpenSSH_9.8\x07", Replica: "connpool-manager-0",
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "db-1-3", Namespace: "shop", CreationTimestamp: *MinutesAgo(52)},
			Pool:       "db", Target: "db-1", Type: "ssh", State: livev1alpha1.ConnectionIdle, UseCount: 17,
		},
	}
	return f
}

// Target returns a target that is ready.
func Target(name, app string) v1alpha1.ConnectionTarget {
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
