package monitoring

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
)

// outage is something real that breaks, for which an alert has to fire.
type outage struct {
	alert string
	// healthy makes what will break in a namespace that has the alert's name in lower
	// case. It returns a function that breaks it.
	healthy func(t *testing.T, w *world, namespace string) (breaks func())
	// labels are further ones that tell this outage's alert from those of others.
	labels map[string]string
	// everywhere means that the alert is about no namespace.
	everywhere bool
	// operator means that the operator itself breaks. That comes last, in the order of
	// the table, and each when the alert before has fired.
	operator bool
}

var outages = []outage{
	{alert: "ConnpoolPoolNotServing", healthy: func(t *testing.T, w *world, namespace string) func() {
		server := w.pool(t, namespace, 1)
		return server.Stop
	}},
	{alert: "ConnpoolPoolDegraded", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1)
		other := startSSHD(t)
		w.target(t, namespace, "other", other)
		w.ready(t, namespace, 2)
		return other.Stop
	}},
	{alert: "ConnpoolPoolStalled", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1)
		return func() {
			const never = `{"name":"never","start":"0 0 30 2 *","end":"0 1 30 2 *","minWarm":2}`
			w.patch(t, thePool(namespace), `{"spec":{"warming":{"schedules":[`+never+`]}}}`)
		}
	}},
	{alert: "ConnpoolTargetsStalled", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1)
		stranger := startSSHD(t)
		return func() {
			secret := credentials(namespace, "target-0", stranger)
			if err := w.client.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{alert: "ConnpoolUsesFailing", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1)
		other := startSSHD(t)
		w.target(t, namespace, "other", other)
		w.ready(t, namespace, 2)
		w.keepRunning(t, namespace, "target-0", 1, "true")
		w.keepRunning(t, namespace, "other", 2, "true")
		return other.Stop
	}},
	{alert: "ConnpoolRequestsQueue", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1, oneAtATime)
		return func() { w.keepRunning(t, namespace, "target-0", 3, "sleep", "300") }
	}},
	{alert: "ConnpoolAcquireSlow", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1, oneAtATime)
		return func() { w.keepRunning(t, namespace, "target-0", 3, "sleep", "2") }
	}},
	{alert: "ConnpoolConnectionLimit", healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1)
		return func() {
			w.patch(t, thePool(namespace), fmt.Sprintf(`{"spec":{"size":{"minWarm":%[1]d,"max":%[1]d}}}`, connectionLimit+1))
		}
	}},
	{alert: "ConnpoolDialsFailing", healthy: func(t *testing.T, w *world, namespace string) func() {
		server := w.pool(t, namespace, 12)
		return server.Stop
	}},
	{alert: "ConnpoolCertificateExpiring", everywhere: true, healthy: func(t *testing.T, w *world, _ string) func() {
		return func() { w.certificate(t, 3*24*time.Hour) }
	}},
	{alert: "ConnpoolAuditLinesDropped", everywhere: true, healthy: func(t *testing.T, w *world, namespace string) func() {
		w.pool(t, namespace, 1)
		return func() {
			if err := syscall.Kill(w.log.Pid(), syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			w.keepRunning(t, namespace, "target-0", 4, "true", strings.Repeat("x", 32<<10))
		}
	}},
	{alert: "ConnpoolDown", operator: true, healthy: killed},
	{alert: "ConnpoolReplicaDown", operator: true, healthy: killed},
	{alert: "ConnpoolAPIUnavailable", operator: true, healthy: killed, labels: map[string]string{"name": "v1alpha1.live.connpool.dev"}},
	{alert: "ConnpoolNoLeader", operator: true, healthy: func(t *testing.T, w *world, _ string) func() {
		return func() {
			w.operator.Stop(0)
			w.steal(t)
			w.start(t)
		}
	}},
}

// killed returns a function that kills the operator, unless it is dead.
func killed(_ *testing.T, w *world, _ string) func() { return func() { w.operator.Stop(0) } }

// steal takes the Lease in the name of a replica that never gives it back.
func (w *world) steal(t *testing.T) {
	t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: controlplane.APINamespace, Name: "connpool-leader"}}
	now := time.Now().UTC().Format(metav1.RFC3339Micro)
	w.patch(t, lease, `{"spec":{"holderIdentity":"gone","leaseDurationSeconds":3600,"renewTime":"`+now+`"}}`)
}

// oneAtATime makes a pool run one command at a time, and others wait.
func oneAtATime(pool *v1alpha1.ConnectionPool) {
	pool.Spec.Size = v1alpha1.PoolSize{MinWarm: new(int32(1)), Max: new(int32(1))}
	pool.Spec.SessionsPerConnection = new(int32(1))
	pool.Spec.Acquire.TimeoutSeconds = new(int32(300))
}

func TestEachAlertFiresWhenSomethingRealBreaks(t *testing.T) {
	rules := readRules(t)
	var missing []string
	for _, alert := range rules.alerts() {
		if !slices.ContainsFunc(outages, func(o outage) bool { return o.alert == alert.Alert }) {
			missing = append(missing, alert.Alert)
		}
	}
	if missing != nil {
		t.Fatalf("no row of outages makes %s fire", missing)
	}
	w := newWorld(t)
	p := w.scrape(t, soon(rules))
	breaks := make([]func(), len(outages))
	for i, o := range outages {
		breaks[i] = o.healthy(t, w, strings.ToLower(o.alert))
	}
	quiet(t, p)
	for i, o := range outages {
		if !o.operator {
			breaks[i]()
		}
	}
	for i, o := range outages {
		t.Run(o.alert, func(t *testing.T) {
			if o.operator {
				breaks[i]()
			}
			fires(t, p, o)
		})
	}
}

// soon returns the rules with alerts that fire after a second. Their expressions are the
// same.
func soon(all rules) rules {
	for g := range all.Groups {
		for r := range all.Groups[g].Rules {
			if rule := &all.Groups[g].Rules[r]; rule.For != "" {
				rule.For = "1s"
			}
		}
	}
	return all
}

// quiet fails the test if an alert is there while everything works. Those of the start,
// when the operator did not serve yet and pools got warm, may go first.
func quiet(t *testing.T, p *prometheus) {
	t.Helper()
	p.settle(t)
	eventually(t, 20*time.Second, "no alert is left of the start", func() (bool, string) {
		alerts := p.alerts(t)
		return len(alerts) == 0, fmt.Sprint(alerts)
	})
	p.settle(t)
	if alerts := p.alerts(t); len(alerts) > 0 {
		t.Fatalf("everything works, and these alerts are there: %v", alerts)
	}
}

// fires waits until the alert of the outage fires.
func fires(t *testing.T, p *prometheus, o outage) {
	t.Helper()
	want := maps.Clone(o.labels)
	if want == nil {
		want = map[string]string{}
	}
	want["alertname"] = o.alert
	if !o.operator && !o.everywhere {
		want["namespace"] = strings.ToLower(o.alert)
	}
	eventually(t, 75*time.Second, o.alert+" fires", func() (bool, string) {
		alerts := p.alerts(t)
		found := slices.ContainsFunc(alerts, func(a alert) bool { return a.State == "firing" && isPart(want, a.Labels) })
		return found, fmt.Sprint(alerts)
	})
}

// isPart reports whether all labels are among others.
func isPart(labels, all map[string]string) bool {
	for name, value := range labels {
		if all[name] != value {
			return false
		}
	}
	return true
}
