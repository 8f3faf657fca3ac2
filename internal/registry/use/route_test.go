package use_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

func TestWhyThereIsNoConnection(t *testing.T) {
	paused := func(p *poolset.Policy) { p.Paused = true }
	deleted := func(target *v1alpha1.ConnectionTarget) { target.DeletionTimestamp = new(metav1.Now()) }
	for name, test := range map[string]struct {
		arrange func(*fixture)
		target  string
		code    int
		reason  string
		words   []string
	}{
		"the pool is not declared": {func(*fixture) {}, "", 404, "", []string{"connectionpools.connpool.dev", `"web"`}},
		"the target is not declared": {func(f *fixture) {
			f.Web()
		}, "web-2", 404, "", []string{`pool web has no target "web-2"; it has web-1`}},
		"the target is of another pool": {func(f *fixture) {
			f.Web()
			f.Connect(f.Target("db-1", "db"), f.Pool("db"))
		}, "db-1", 404, "", []string{`pool web has no target "db-1"; it has web-1`}},
		"the target of another pool is of another type": {func(f *fixture) {
			f.Web()
			f.Connect(f.Target("db-1", "db", registrytest.Docker), f.Pool("db"))
		}, "db-1", 404, "", []string{`pool web has no target "db-1"; it has web-1`}},
		"the target of a pool of one is another": {func(f *fixture) {
			f.Connect(f.Target("web-1", "web"), f.Pool("web", registrytest.OnlyFor("web-1")))
			f.Target("web-2", "web")
		}, "web-2", 404, "", []string{`pool web has no target "web-2"; it has web-1`}},
		"several targets and none is named": {func(f *fixture) {
			pool := f.Pool("web")
			f.Connect(f.Target("web-1", "web"), pool)
			f.Connect(f.Target("web-2", "web"), pool)
		}, "", 400, "", []string{"spec.target", "web-1, web-2", "LeastLoaded"}},
		"targets are named as people count": {func(f *fixture) {
			pool := f.Pool("web")
			f.Connect(f.Target("web-10", "web"), pool)
			f.Connect(f.Target("web-9", "web"), pool)
		}, "", 400, "", []string{"web-9, web-10"}},
		"one target is left and none is named": {func(f *fixture) {
			f.Connect(f.Target("web-1", "web"), f.Pool("web")) // others may be away for the moment
		}, "", 400, "", []string{"spec.target", "web-1", "LeastLoaded"}},
		"the target lacks its Secret": {func(f *fixture) {
			f.Web()
			f.Target("web-2", "web", f.Unusable("CredentialsMissing", "the Secret does not exist"))
		}, "web-2", 503, "CredentialsMissing", []string{"target web-2", "the Secret does not exist"}},
		"the target is being deleted": {func(f *fixture) {
			f.Web()
			f.Target("web-2", "web", deleted)
		}, "web-2", 503, "Pending", []string{"try again"}},
		"the target is being deleted and lacks its Secret": {func(f *fixture) {
			f.Web()
			f.Target("web-2", "web", deleted, f.Unusable("CredentialsMissing", "the Secret does not exist"))
		}, "web-2", 503, "CredentialsMissing", []string{"target web-2", "the Secret does not exist"}},
		"the only target lacks its Secret": {func(f *fixture) {
			f.Pool("web", registrytest.OnlyFor("web-1"))
			f.Target("web-1", "web", f.Unusable("CredentialsMissing", "the Secret does not exist"))
		}, "", 503, "CredentialsMissing", []string{"target web-1"}},
		"the pool has no target": {func(f *fixture) {
			f.Pool("web", registrytest.LeastLoaded)
		}, "", 503, "NoTargets", []string{"pool web", "no ConnectionTarget of namespace team has labels that match", "pool=web"}},
		"the only target is not there": {func(f *fixture) {
			f.Pool("web", registrytest.OnlyFor("web-1"))
		}, "", 503, "TargetNotFound", []string{"pool web", "the ConnectionTarget web-1 does not exist"}},
		"no target of the pool can be used": {func(f *fixture) {
			f.Pool("web", registrytest.LeastLoaded)
			f.Target("web-1", "web", f.Unusable("CredentialsMissing", "the Secret does not exist"))
			f.Target("web-2", "web", f.Unusable("CredentialsMissing", "the Secret does not exist"))
		}, "", 503, "TargetsFailing", []string{"pool web", "web-1: CredentialsMissing: the Secret does not exist"}},
		"nothing is known yet": {func(f *fixture) {
			f.Pool("web", registrytest.LeastLoaded)
			f.Target("web-1", "web")
		}, "web-1", 503, "Pending", []string{"try again"}},
		"the pool is paused": {func(f *fixture) {
			f.ConnectWith(f.Target("web-1", "web"), f.Fake, paused, f.Pool("web", registrytest.LeastLoaded))
		}, "", 503, "Paused", []string{"pool web", "Active"}},
		"the target is down": {func(f *fixture) {
			f.Fake.OnDial(func(context.Context, driver.Endpoint) error {
				return &driver.Error{Reason: driver.AuthenticationFailed, Stage: driver.StageAuthentication, Message: "the key is refused"}
			})
			f.Web()
		}, "web-1", 503, "AuthenticationFailed", []string{"target web-1", "the key is refused"}},
		"the target is still dialed": {func(f *fixture) {
			f.Fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
				<-ctx.Done()
				return ctx.Err()
			})
			f.Web()
		}, "web-1", 503, "Timeout", []string{"still being dialed"}},
		"objects cannot be read": {func(f *fixture) {
			f.Objects.Err = errors.New("canary: cache is not synced")
		}, "", 503, "", []string{"cannot read the pool"}},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				test.arrange(f)
				got := f.Post(f.Context(), "web", registrytest.On(test.target))
				got.WantRefusal(f, test.code, test.words...)
				if reason := registrytest.Causes(got.Status)[live.CauseReason]; reason != test.reason {
					t.Errorf("reason is %q, want %q", reason, test.reason)
				}
				if outcome := registrytest.Causes(got.Status)[live.CauseOutcome]; test.code == 503 && outcome != string(live.OutcomeNotStarted) {
					t.Errorf("outcome is %q", outcome)
				}
				if f.Execs() != 0 {
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
		"the only one":                          {registrytest.OnlyFor("web-1"), ""},
		"the only one, named":                   {registrytest.OnlyFor("web-1"), "web-1"},
		"any, if the pool routes to any":        {registrytest.LeastLoaded, ""},
		"the one that is named, if to any else": {registrytest.LeastLoaded, "web-1"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Connect(f.Target("web-1", "web"), f.Pool("web", test.change))
				got := f.Post(f.Context(), "web", registrytest.On(test.target))
				got.WantOutcome(f, live.OutcomeCompleted)
				if got.Exec.Status.Target != "web-1" {
					t.Errorf("it ran on %q", got.Exec.Status.Target)
				}
			})
		})
	}
}

// The field that helps depends on what bounds a connection.
func TestAFullPoolNamesTheFieldToRaiseAndByHowMuch(t *testing.T) {
	docker := func(target *v1alpha1.ConnectionTarget) {
		target.Spec = v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{}}
	}
	container := registrytest.Command("true")
	container.Spec.Container = "web"
	tests := map[string]struct {
		kind    func(*v1alpha1.ConnectionTarget)
		command live.Exec
		words   string
	}{
		"of an ssh target":   {func(*v1alpha1.ConnectionTarget) {}, registrytest.Command("true"), "raise its size.max, which is 4, to 8"},
		"of a docker target": {docker, container, "raise its sessionsPerConnection, which is 100 on each of 4 connections, to 200"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				narrow := func(p *poolset.Policy) { p.LeasesPerConn, p.MaxPending = 1, 1 }
				f.ConnectWith(f.Target("web-1", "web", test.kind), f.Fake, narrow, f.Pool("web", registrytest.OnlyFor("web-1")))
				release := make(chan struct{})
				f.Fake.OnExec(registrytest.Lasting(release))
				running := f.Later(f.Context(), "web", test.command)
				synctest.Wait()
				f.Post(f.Context(), "web", test.command).WantRefusal(f, http.StatusTooManyRequests, "every connection that pool web may have", test.words)
				close(release)
				<-running
			})
		})
	}
}

func TestAUserFindsRoomInAQueueThatAnotherHasFilled(t *testing.T) {
	inFixture(t, func(f *fixture) {
		narrow := func(p *poolset.Policy) { p.LeasesPerConn, p.MaxPending = 1, 3 }
		f.ConnectWith(f.Target("web-1", "web"), f.Fake, narrow, f.Pool("web", registrytest.LeastLoaded))
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		var ann []<-chan registrytest.Reply
		for range 4 { // one runs
			ann = append(ann, f.Later(f.Context(), "web", registrytest.Command("true"), registrytest.As("ann")))
			synctest.Wait()
		}
		bob := f.Later(f.Context(), "web", registrytest.Command("true"), registrytest.As("bob"))
		got := <-ann[3]
		got.WantRefusal(f, http.StatusTooManyRequests, "made room for another user", "maxPending, which is 100", "size.max, which is 4, to 8")
		if registrytest.Causes(got.Status)[live.CauseReason] != "PoolExhausted" {
			t.Errorf("causes are %v", got.Status.Details)
		}
		close(release)
		for _, reply := range append(ann[:3], bob) {
			(<-reply).WantOutcome(f, live.OutcomeCompleted)
		}
	})
}

func TestAFullPoolIsA429(t *testing.T) {
	inFixture(t, func(f *fixture) {
		narrow := func(p *poolset.Policy) { p.LeasesPerConn, p.MaxPending = 1, 1 }
		f.ConnectWith(f.Target("web-1", "web"), f.Fake, narrow, f.Pool("web", registrytest.LeastLoaded))
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		running := f.Later(f.Context(), "web", registrytest.Command("sleep"))
		synctest.Wait()
		waiting := f.Later(f.Context(), "web", registrytest.Command("true"))
		synctest.Wait()
		f.Post(f.Context(), "web", registrytest.Command("true")).WantRefusal(f, http.StatusTooManyRequests, "wait for pool web", "maxPending")
		got := <-waiting
		got.WantRefusal(f, http.StatusTooManyRequests, "every connection that pool web may have")
		if registrytest.Causes(got.Status)[live.CauseReason] != "PoolExhausted" {
			t.Errorf("causes are %v", got.Status.Details)
		}
		close(release)
		<-running
	})
}

// A user who may use one pool must not learn what else is in its namespace.
func TestARefusalDoesNotSayWhichTargetsExist(t *testing.T) {
	answers := map[string]registrytest.Reply{}
	for _, exists := range []bool{true, false} {
		inFixture(t, func(f *fixture) {
			f.Web()
			if exists {
				f.Connect(f.Target("db-1", "db"), f.Pool("db"))
			}
			for _, path := range []string{"exec", "proxy/db-1/version", "portforward?target=db-1"} {
				req := httptest.NewRequestWithContext(f.Context(), http.MethodPost, "/pools/web/"+path, strings.NewReader(`{"spec":{"target":"db-1","command":["id"]}}`))
				if strings.HasPrefix(path, "portforward") {
					registrytest.Upgrading(req)
				}
				got := f.Send(req)
				if before, ok := answers[path]; ok && !cmp.Equal(before.Status, got.Status) {
					t.Errorf("%s: one answer is %+v, the other %+v", path, before.Status, got.Status)
				}
				answers[path] = got
				got.WantRefusal(f, http.StatusNotFound, "db-1")
			}
		})
	}
}
