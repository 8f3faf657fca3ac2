package integration

import (
	"math"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/openssh"
)

// pair is a pool of two targets, which are one server.
type pair struct {
	pool       *v1alpha1.ConnectionPool
	one, other *v1alpha1.ConnectionTarget
	secret     *corev1.Secret
}

// twoTargets makes a pair and waits until both targets are ready.
func twoTargets(t *testing.T, server *openssh.Server) pair {
	t.Helper()
	space := namespace(t)
	secret := credentials(space, "web-ssh", server)
	one, other := target(space, "web-1", server, "web-ssh"), target(space, "web-2", server, "web-ssh")
	p := pool(space, "web", "", size(1, 4), func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.TargetRef = nil
		spec.TargetSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	})
	create(t, secret, one, other, p)
	seen(t, p, "both targets are ready", func() bool { return p.Status.Targets.Ready != nil && *p.Status.Targets.Ready == 2 })
	condition(t, 20*time.Second, one, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	condition(t, 20*time.Second, other, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	return pair{pool: p, one: one, other: other, secret: secret}
}

// seen waits until an object that was read again is as wanted: long enough for a busy
// machine, and not long enough for the counters' interval.
func seen(t *testing.T, object client.Object, what string, fact func() bool) {
	t.Helper()
	eventually(t, 20*time.Second, what, func() (bool, string) {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return false, err.Error()
		}
		return fact(), ""
	})
}

func summaryIs(t *testing.T, p *v1alpha1.ConnectionPool, want string) {
	t.Helper()
	seen(t, p, "STATUS is "+want, func() bool { return p.Status.Summary != nil && *p.Status.Summary == want })
}

func TestARefusedKeyIsSeenWherePeopleLookWhileTheOldConnectionsServe(t *testing.T) {
	server := startSSHD(t)
	made := twoTargets(t, server)
	p, one, other, secret := made.pool, made.one, made.other, made.secret
	good := secret.Data["ssh-privatekey"]
	change(t, secret, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = newKey(t).private })

	summaryIs(t, p, "Warm,CredentialsInvalid")
	condition(t, time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	seen(t, p, "both targets are listed", func() bool { return len(p.Status.FailingTargets) == 2 })
	for _, failing := range p.Status.FailingTargets {
		if failing.Reason != v1alpha1.ReasonCredentialsInvalid || failing.Serving == nil || failing.Since == nil {
			t.Errorf("failing target %+v, want one that serves, with reason and time", failing)
		}
	}
	degraded := condition(t, time.Second, p, v1alpha1.ConditionDegraded, yes, v1alpha1.ReasonTargetsFailing)
	if !strings.Contains(degraded.Message, "web-1 (CredentialsInvalid, still serves)") {
		t.Errorf("message %q does not name the targets", degraded.Message)
	}
	seen(t, one, "STATUS of the target", func() bool { return *one.Status.Summary == "Warm,CredentialsInvalid" })
	expectEvent(t, one, corev1.EventTypeWarning, v1alpha1.ReasonCredentialsInvalid)
	expectEvent(t, other, corev1.EventTypeWarning, v1alpha1.ReasonCredentialsInvalid)
	expectEvent(t, p, corev1.EventTypeWarning, v1alpha1.ReasonTargetsFailing)
	prometheus := account(t, p.Namespace, "prometheus")
	allowMetrics(t, prometheus)
	series := `connpool_targets_failing{namespace="` + p.Namespace + `",pool="web",reason="CredentialsInvalid",serving="true",stalled="true",type="ssh"} 2`
	eventually(t, 10*time.Second, "the metric counts both", func() (bool, string) {
		status, text := scrape(t, as(t, env.config, prometheus))
		return status == 200 && strings.Contains(text, series), ""
	})

	change(t, secret, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = good })
	summaryIs(t, p, "Warm")
	seen(t, one, "STATUS of the target", func() bool { return *one.Status.Summary == "Warm" })
	expectEvent(t, p, corev1.EventTypeNormal, v1alpha1.ReasonWarm)
}

func TestANewMessageAboutWhatAPersonHasToChangeIsWrittenSoon(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	ct := target(space, "web", server, "web-ssh")
	create(t, ct, pool(space, "web", "web"))
	condition(t, 10*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonCredentialsMissing)

	secret := credentials(space, "web-ssh", server)
	secret.Data = map[string][]byte{"id_rsa": server.PrivateKey}
	create(t, secret)
	created := time.Now()
	seen(t, ct, "the message is about the key that the Secret lacks", func() bool {
		found := meta.FindStatusCondition(ct.Status.Conditions, v1alpha1.ConditionCredentialsReady)
		return found.Reason == v1alpha1.ReasonCredentialsMissing && strings.Contains(found.Message, "neither ssh-privatekey nor password")
	})
	t.Logf("the message was new after %s", time.Since(created).Round(time.Millisecond))
}

// autoscaled returns the replicas that a HorizontalPodAutoscaler asks for, for a metric of
// type External with an AverageValue: replica_calculator.go, GetExternalPerPodMetricReplicas.
func autoscaled(usage, averageValue float64, status int32) int32 {
	const tolerance = 0.1
	if ratio := usage / (averageValue * float64(status)); math.Abs(1-ratio) <= tolerance {
		return status
	}
	return int32(math.Ceil(usage / averageValue))
}

func TestAnAutoscalerScalesAServingPoolWhichStaysReady(t *testing.T) {
	p := twoTargets(t, startSSHD(t)).pool
	since := condition(t, 20*time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm).LastTransitionTime
	eventually(t, 5*time.Second, "another transition would have another time", func() (bool, string) { return time.Since(since.Time) > 2*time.Second, "" })

	scale := &autoscalingv1.Scale{}
	current := func() int32 {
		t.Helper()
		if err := env.client.SubResource("scale").Get(t.Context(), p, scale); err != nil {
			t.Fatal(err)
		}
		if scale.Status.Selector == "" {
			t.Error("a HorizontalPodAutoscaler refuses a scale without a selector")
		}
		return scale.Status.Replicas
	}
	if n := current(); n != 1 {
		t.Fatalf("%d replicas with one connection to each of two targets, want 1", n)
	}
	const usage, each = 60, 20
	scale.Spec.Replicas = autoscaled(usage, each, current())
	if err := env.client.SubResource("scale").Update(t.Context(), p, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the status follows the spec", func() (bool, string) { return current() == 3, "" })
	if again := autoscaled(usage, each, current()); again != scale.Spec.Replicas {
		t.Errorf("the autoscaler goes on to %d although %d are there", again, scale.Spec.Replicas)
	}
	seen(t, p, "all has been done", func() bool {
		return *p.Status.Connections.Warm == 6 && !isTrue(p, v1alpha1.ConditionReconciling)
	})
	ready := condition(t, time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if !ready.LastTransitionTime.Equal(&since) {
		t.Error("the pool was not ready while it grew")
	}
	change(t, p, func(p *v1alpha1.ConnectionPool) { p.Spec.Routing = new(v1alpha1.RoutingLeastLoaded) })
	ready = condition(t, 20*time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if !ready.LastTransitionTime.Equal(&since) {
		t.Error("the pool was not ready while its spec changed")
	}
}

func TestFiguresAreRightSoonAfterAPauseHasDrainedThePool(t *testing.T) {
	p := twoTargets(t, startSSHD(t)).pool
	change(t, p, func(p *v1alpha1.ConnectionPool) { p.Spec.State = new(v1alpha1.PoolPaused) })
	seen(t, p, "no connection is shown", func() bool {
		c := p.Status.Connections
		return *p.Status.Summary == v1alpha1.ReasonPaused && *c.Warm == 0 && *c.Draining == 0 && *c.WarmPerTarget == 0
	})
}

func TestTheUsesOfAPoolStayWhenATargetLeaves(t *testing.T) {
	made := twoTargets(t, startSSHD(t))
	p, one, other := made.pool, made.one, made.other
	for _, ct := range []*v1alpha1.ConnectionTarget{one, other} {
		for range 2 {
			if _, err := execute(t, p, ct, "true"); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A change of the minimum has the statuses written before the counters are due.
	change(t, p, func(p *v1alpha1.ConnectionPool) { p.Spec.Size.MinWarm = new(int32(2)) })
	seen(t, p, "4 uses are counted", func() bool { return *p.Status.UseCount == 4 })
	remove(t, other)
	seen(t, p, "the target has left", func() bool { return *p.Status.Targets.Total == 1 })
	if n := *p.Status.UseCount; n != 4 {
		t.Errorf("%d uses after a target left, want 4", n)
	}
	if _, err := execute(t, p, one, "true"); err != nil {
		t.Fatal(err)
	}
	change(t, p, func(p *v1alpha1.ConnectionPool) { p.Spec.Size.MinWarm = new(int32(1)) })
	seen(t, one, "3 uses of the target", func() bool { return *one.Status.UseCount == 3 })
	change(t, one, func(ct *v1alpha1.ConnectionTarget) { ct.Labels = nil })
	seen(t, p, "the other has left", func() bool { return *p.Status.Targets.Total == 0 })
	seen(t, p, "its last use is counted", func() bool { return *p.Status.UseCount == 5 })
}
