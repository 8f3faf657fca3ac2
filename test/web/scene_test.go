// Package web tries the page of `connpool web` in a real Chromium: with the mouse, with
// the keyboard, in light and dark, and with 1,000 targets.
//
// The programs beside it drive the browser with playwright-core and look for obstacles
// with axe-core. They tell the test what to change in the cluster, and report what
// they found.
package web

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/web"
)

const namespace = "shop"

// scene is a cluster whose pools are watched on the page.
type scene struct {
	*clitest.Fixture

	now time.Time
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{Fixture: clitest.New(t, web.New), now: time.Now()}
	s.Now = time.Now
	return s
}

// onCall is what a person on call may meet: five pools, and three targets that fail.
func onCall(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	for _, pool := range []struct {
		name, kind string
		targets    int
	}{{"web", "ssh", 12}, {"db", "ssh", 4}, {"build", "docker", 6}, {"edge", "ssh", 24}, {"clusters", "kubernetes", 3}} {
		s.addPool(pool.name, pool.kind, pool.targets)
	}
	s.fail("web-07", v1alpha1.ReasonAuthenticationFailed,
		"The server refuses the key of user deploy. Add its public half to ~/.ssh/authorized_keys there, or correct the Secret web-key.")
	s.fail("edge-03", v1alpha1.ReasonUnreachable, unreachable)
	s.fail("edge-19", v1alpha1.ReasonUnreachable, unreachable)
	s.lurk("db-02", v1alpha1.ReasonCredentialsInvalid,
		"The Secret db-key holds no private key that can be read. The connections with the earlier key serve on; correct the Secret.")
	s.pool("clusters").Status.Conditions = conditions("False", v1alpha1.ReasonWarming, "1 of 3 targets has its warm connections.", s.now)
	s.target("clusters-02").Status = warming(s.now, "clusters")
	s.Uses = []livev1alpha1.Use{
		s.use("1", "alice", livev1alpha1.UseSession, 7*time.Minute), s.use("2", "deploy-bot", livev1alpha1.UseExec, 4*time.Second),
		s.use("3", "deploy-bot", livev1alpha1.UseExec, 3*time.Minute), s.use("4", "bob", livev1alpha1.UseExec, 11*time.Minute),
	}
	s.end(2, 0)
	s.end(3, 1)
	return s
}

const unreachable = "No answer from port 22 within 5s. Check that the host is up and that a firewall lets the operator through."

// use is a use of web-03 that began some time ago.
func (s *scene) use(name, user string, action livev1alpha1.UseAction, ago time.Duration) livev1alpha1.Use {
	use := livev1alpha1.Use{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, CreationTimestamp: metav1.NewTime(s.now.Add(-ago))},
		Pool:       "web", Target: "web-03", User: user, Action: action, State: livev1alpha1.UseRunning,
	}
	if action == livev1alpha1.UseSession {
		use.Session = "web-x7k2"
	}
	return use
}

// end ends a use with an exit code.
func (s *scene) end(i, code int) {
	use := &s.Uses[i]
	use.State, use.ExitCode = livev1alpha1.UseEnded, new(int32(code))
	use.EndTime = &metav1.Time{Time: use.CreationTimestamp.Add(2 * time.Second)}
}

// thousand is a cluster with 1,000 targets in 10 pools.
func thousand(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	for i := range 10 {
		s.addPool(fmt.Sprintf("rack-%02d", i), "ssh", 100)
	}
	s.fail("rack-04-17", v1alpha1.ReasonUnreachable, unreachable)
	return s
}

func (s *scene) addPool(name, kind string, targets int) {
	poolType := v1alpha1.PoolType(kind)
	s.Pools = append(s.Pools, v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
		Status: v1alpha1.ConnectionPoolStatus{
			Type: &poolType, Connections: v1alpha1.PoolConnectionCounts{Desired: new(int32(2 * targets))},
			Conditions: conditions("True", v1alpha1.ReasonWarm, "All targets have their warm connections.", s.now),
		},
	})
	for i := range targets {
		target := clitest.Target(fmt.Sprintf("%s-%02d", name, i), name)
		if kind == "docker" {
			target.Spec.Docker = &v1alpha1.DockerTarget{}
		}
		target.Status.Conditions = conditions("True", v1alpha1.ReasonWarm, "It has its warm connections.", s.now)
		s.Targets = append(s.Targets, target)
		for n := range 2 {
			s.Connections = append(s.Connections, s.connection(name, target.Name, kind, i, n))
		}
	}
}

func (s *scene) connection(pool, target, kind string, i, n int) livev1alpha1.Connection {
	running := int32((i * (n + 3)) % 7 * ((i + n) % 2))
	state := livev1alpha1.ConnectionIdle
	if running > 0 {
		state = livev1alpha1.ConnectionInUse
	}
	used := metav1.NewTime(s.now.Add(-time.Duration(i+3*n+1) * time.Second))
	return livev1alpha1.Connection{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%d", target, n), Namespace: namespace,
			CreationTimestamp: metav1.NewTime(s.now.Add(-time.Duration(20+17*i+5*n) * time.Minute)),
		},
		Pool: pool, Target: target, Type: kind, State: state, InUse: running, UseCount: int64(40*i + 9*n), LastUsedTime: &used,
		RoundTripMicroseconds: int64(420 + 31*i + 7*n), RemoteAddress: fmt.Sprintf("10.0.%d.%d:22", len(pool), i+1),
	}
}

// busy lets uses end and keepalives be answered, as in a cluster where something is done.
func (s *scene) busy(step int) {
	s.Change(func() {
		connections := make([]livev1alpha1.Connection, len(s.Connections))
		copy(connections, s.Connections)
		for i := range connections {
			c := &connections[i]
			c.UseCount += int64((i*7 + step) % 3)
			c.InUse = int32((i + step) % 9 * ((i + step) % 2))
			c.State = livev1alpha1.ConnectionIdle
			if c.InUse > 0 {
				c.State = livev1alpha1.ConnectionInUse
			}
			c.RoundTripMicroseconds = int64(400 + 31*(i%20) + 90*((i+step*step)%7))
		}
		s.Connections = connections
	})
}

func (s *scene) pool(name string) *v1alpha1.ConnectionPool {
	for i := range s.Pools {
		if s.Pools[i].Name == name {
			return &s.Pools[i]
		}
	}
	return nil
}

func (s *scene) target(name string) *v1alpha1.ConnectionTarget {
	for i := range s.Targets {
		if s.Targets[i].Name == name {
			return &s.Targets[i]
		}
	}
	return nil
}

// fail takes the connections of a target away, and says why.
func (s *scene) fail(name, reason, message string) {
	target := s.target(name)
	target.Status.Conditions = append(
		conditions("False", reason, message, s.now), condition(v1alpha1.ConditionReachable, "False", reason, "The newest attempt: "+reason+".", s.now.Add(-12*time.Minute)))
	target.Status.Pools = []v1alpha1.TargetPoolStatus{{Name: target.Labels["app"], Ready: new(false), Reason: &reason}}
	var left []livev1alpha1.Connection
	for _, c := range s.Connections {
		if c.Target != name {
			left = append(left, c)
		}
	}
	s.Connections = left
}

// lurk lets a target serve with credentials that will not serve again.
func (s *scene) lurk(name, reason, message string) {
	target := s.target(name)
	target.Status.Conditions = append(target.Status.Conditions,
		condition(v1alpha1.ConditionCredentialsReady, "False", reason, message, s.now.Add(-3*time.Minute)),
		condition(v1alpha1.ConditionStalled, "True", reason, message, s.now.Add(-3*time.Minute)))
}

// replaceTargets makes the targets new, for a change while they are read.
func (s *scene) replaceTargets() { s.Targets = slices.Clone(s.Targets) }

// recover makes a target as good as new.
func (s *scene) recover(name string) {
	target := s.target(name)
	target.Status.Conditions = conditions("True", v1alpha1.ReasonWarm, "It has its warm connections.", s.now)
	target.Status.Pools = []v1alpha1.TargetPoolStatus{{Name: target.Labels["app"], Ready: new(true)}}
}

func warming(now time.Time, pool string) v1alpha1.ConnectionTargetStatus {
	return v1alpha1.ConnectionTargetStatus{
		Conditions: conditions("False", v1alpha1.ReasonWarming, "Its connections are being made.", now),
		Pools:      []v1alpha1.TargetPoolStatus{{Name: pool, Ready: new(false), Reason: new(v1alpha1.ReasonWarming)}},
	}
}

func conditions(ready, reason, message string, now time.Time) []metav1.Condition {
	return []metav1.Condition{condition(v1alpha1.ConditionReady, ready, reason, message, now.Add(-12*time.Minute))}
}

func condition(kind, status, reason, message string, since time.Time) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(since),
	}
}
