package registry

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// on is a command for a target.
func on(target string) live.Exec {
	object := command("true")
	object.Spec.Target = target
	return object
}

func TestWhyThereIsNoConnection(t *testing.T) {
	paused := func(p *poolset.Policy) { p.Paused = true }
	for name, test := range map[string]struct {
		arrange func(*world)
		target  string
		code    int
		reason  string
		words   []string
	}{
		"the pool is not declared": {func(*world) {}, "", 404, "", []string{"connectionpools.connpool.dev", `"web"`}},
		"the target is not declared": {func(w *world) {
			w.web()
		}, "web-2", 404, "", []string{"connectiontargets.connpool.dev", `"web-2"`}},
		"the target is of another pool": {func(w *world) {
			w.web()
			w.connect(w.target("db-1", "db"), w.pool("db"))
		}, "db-1", 400, "", []string{"spec.target", "not of pool web", "web-1"}},
		"the target of a pool of one is another": {func(w *world) {
			w.connect(w.target("web-1", "web"), w.pool("web", onlyFor("web-1")))
			w.target("web-2", "web")
		}, "web-2", 400, "", []string{"not of pool web", "web-1"}},
		"several targets and none is named": {func(w *world) {
			pool := w.pool("web")
			w.connect(w.target("web-1", "web"), pool)
			w.connect(w.target("web-2", "web"), pool)
		}, "", 400, "", []string{"spec.target", "web-1, web-2", "LeastLoaded"}},
		"the target lacks its Secret": {func(w *world) {
			w.web()
			w.target("web-2", "web", ready(metav1.ConditionFalse, "CredentialsMissing", "the Secret does not exist"))
		}, "web-2", 503, "CredentialsMissing", []string{"target web-2", "the Secret does not exist"}},
		"the only target lacks its Secret": {func(w *world) {
			w.pool("web", onlyFor("web-1"))
			w.target("web-1", "web", ready(metav1.ConditionFalse, "CredentialsMissing", "the Secret does not exist"))
		}, "", 503, "CredentialsMissing", []string{"target web-1"}},
		"the pool has no target": {func(w *world) {
			w.pool("web", leastLoaded).Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "NoTargets", Message: "nothing matches",
			}}
		}, "", 503, "NoTargets", []string{"pool web", "nothing matches"}},
		"nothing is known yet": {func(w *world) {
			w.pool("web", leastLoaded)
			w.target("web-1", "web")
		}, "web-1", 503, "Pending", []string{"try again"}},
		"the pool is paused": {func(w *world) {
			w.connectWith(w.target("web-1", "web"), w.fake, paused, w.pool("web", leastLoaded))
		}, "", 503, "Paused", []string{"pool web", "Active"}},
		"the target is down": {func(w *world) {
			w.fake.OnDial(func(context.Context, driver.Endpoint) error {
				return &driver.Error{Reason: driver.AuthenticationFailed, Stage: driver.StageAuthentication, Message: "the key is refused"}
			})
			w.web()
		}, "web-1", 503, "AuthenticationFailed", []string{"target web-1", "the key is refused"}},
		"the target is still dialed": {func(w *world) {
			w.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
				<-ctx.Done()
				return ctx.Err()
			})
			w.web()
		}, "web-1", 503, "Timeout", []string{"still being dialed"}},
		"objects cannot be read": {func(w *world) {
			w.objects.err = errors.New("canary: cache is not synced")
		}, "", 503, "", []string{"cannot read the pool"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				test.arrange(w)
				got := w.post(w.Context(), "web", on(test.target))
				got.wantRefusal(w, test.code, test.words...)
				if reason := causes(got.status)[live.CauseReason]; reason != test.reason {
					t.Errorf("reason is %q, want %q", reason, test.reason)
				}
				if outcome := causes(got.status)[live.CauseOutcome]; test.code == 503 && outcome != string(live.OutcomeNotStarted) {
					t.Errorf("outcome is %q", outcome)
				}
				if w.execs() != 0 {
					t.Error("something ran")
				}
			})
		})
	}
}

func TestWhichTargetACommandRunsOn(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*v1alpha1.ConnectionPool)
		target string
	}{
		"the one that is named":                 {func(*v1alpha1.ConnectionPool) {}, "web-1"},
		"the only one":                          {onlyFor("web-1"), ""},
		"the only one, named":                   {onlyFor("web-1"), "web-1"},
		"any, if the pool routes to any":        {leastLoaded, ""},
		"the one that is named, if to any else": {leastLoaded, "web-1"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.connect(w.target("web-1", "web"), w.pool("web", test.change))
				got := w.post(w.Context(), "web", on(test.target))
				got.wantOutcome(w, live.OutcomeCompleted)
				if got.exec.Status.Target != "web-1" {
					t.Errorf("it ran on %q", got.exec.Status.Target)
				}
			})
		})
	}
}

func TestAFullPoolIsA429(t *testing.T) {
	inWorld(t, func(w *world) {
		narrow := func(p *poolset.Policy) { p.LeasesPerConn, p.MaxPending = 1, 1 }
		w.connectWith(w.target("web-1", "web"), w.fake, narrow, w.pool("web", leastLoaded))
		release := make(chan struct{})
		w.fake.OnExec(lasting(release))
		running := w.later(w.Context(), "web", command("sleep"))
		synctest.Wait()
		waiting := w.later(w.Context(), "web", command("true"))
		synctest.Wait()
		w.post(w.Context(), "web", command("true")).wantRefusal(w, http.StatusTooManyRequests, "wait for pool web", "maxPending")
		got := <-waiting
		got.wantRefusal(w, http.StatusTooManyRequests, "every session of pool web")
		if causes(got.status)[live.CauseReason] != "PoolExhausted" {
			t.Errorf("causes are %v", got.status.Details)
		}
		close(release)
		<-running
	})
}

func TestNeverMoreThanTenTargetsAreListed(t *testing.T) {
	if got := list([]string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}, 10); got != "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..." {
		t.Error(got)
	}
}
