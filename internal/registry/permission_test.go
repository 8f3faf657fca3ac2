package registry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// upgrading makes a request one for a WebSocket.
func upgrading(req *http.Request) {
	req.Method = http.MethodGet
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	req.Header.Set("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
}

// onlyGet permits what a viewer may.
func onlyGet(a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() == "get" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "no rule allows it", nil
}

func TestEveryTransportNeedsCreate(t *testing.T) {
	for name, test := range map[string]struct {
		path   string
		change func(*http.Request)
		want   string
	}{
		"a command in a WebSocket":      {"/pools/web/exec?command=id&stdout=1", upgrading, "exec"},
		"a command as JSON":             {"/pools/web/exec", func(*http.Request) {}, "exec"},
		"a forward in a WebSocket":      {"/pools/web/portforward", upgrading, "portforward"},
		"a GET of a target's own API":   {"/pools/web/proxy/web-1/version", func(req *http.Request) { req.Method = http.MethodGet }, "proxy"},
		"a plain GET where nothing can": {"/pools/web/exec", func(req *http.Request) { req.Method = http.MethodGet }, "exec"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				w.judge.verdict = onlyGet
				req := httptest.NewRequestWithContext(w.Context(), http.MethodPost, test.path, http.NoBody)
				test.change(req)
				w.send(req).wantRefusal(w, http.StatusForbidden, `"alice"`, "create", "connectionpools/"+test.want, "no rule allows it")
				if w.execs() != 0 {
					t.Error("something ran")
				}
				asked := w.judge.questions()
				if len(asked) != 1 {
					t.Fatalf("the authorizer was asked %d times", len(asked))
				}
				a := asked[0]
				got := [...]string{a.GetVerb(), a.GetAPIGroup(), a.GetAPIVersion(), a.GetResource(), a.GetSubresource(), a.GetNamespace(), a.GetName(), a.GetUser().GetName()}
				want := [...]string{"create", "live.connpool.dev", "v1alpha1", "connectionpools", test.want, namespace, "web", "alice"}
				if got != want || !a.IsResourceRequest() || a.GetPath() != req.URL.Path {
					t.Errorf("the authorizer was asked %v", got)
				}
			})
		})
	}
}

func TestWhatCannotBeDecidedIsNotPermitted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.judge.decide(authorizer.DecisionNoOpinion, errors.New("canary: connection refused"))
		got := w.post(w.Context(), "web", command("id"))
		got.wantRefusal(w, http.StatusServiceUnavailable, "cannot be decided now")
		if w.execs() != 0 {
			t.Error("something ran")
		}
	})
}

func TestARevokedPermissionEndsWhatRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.fake.OnExec(lasting(nil))
		running := w.later(w.Context(), "web", command("sleep", "infinity"))
		time.Sleep(20 * time.Second)
		w.judge.decide(authorizer.DecisionNoOpinion, nil)
		revoked := time.Now()
		got := <-running
		if after := time.Since(revoked); after > recheckPeriod {
			t.Errorf("it ended %v after the permission was revoked", after)
		}
		got.wantOutcome(w, live.OutcomeUnknown)
		if got.exec.Status.Reason != reasonRevoked {
			t.Errorf("reason is %q", got.exec.Status.Reason)
		}
	})
}

func TestAnAuthorizerThatIsDownEndsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		release := make(chan struct{})
		w.fake.OnExec(lasting(release))
		running := w.later(w.Context(), "web", command("sleep", "infinity"))
		synctest.Wait()
		w.judge.decide(authorizer.DecisionDeny, errors.New("connection refused"))
		time.Sleep(5*time.Minute + time.Second)
		close(release)
		(<-running).wantOutcome(w, live.OutcomeCompleted)
		if asked := len(w.judge.questions()); asked != 1+20 {
			t.Errorf("the authorizer was asked %d times in 5 minutes", asked)
		}
	})
}

func TestWhatIsDeletedEndsWhatRuns(t *testing.T) {
	for name, remove := range map[string]func(*world){
		"the target": func(w *world) { w.set.Remove("target-web-1") },
		"the pool":   func(w *world) { w.connect(w.target("web-1", "web")) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				w.fake.OnExec(lasting(nil))
				running := w.later(w.Context(), "web", command("sleep", "infinity"))
				synctest.Wait()
				remove(w)
				deleted := time.Now()
				(<-running).wantOutcome(w, live.OutcomeUnknown)
				if after := time.Since(deleted); after > 45*time.Second {
					t.Errorf("it ended after %v", after)
				}
			})
		})
	}
}

func TestWaitEndsWhatOutlastsIt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		if err := w.registry.Wait(w.Context()); err != nil {
			t.Errorf("nothing runs, and Wait says %v", err)
		}
		w.fake.OnExec(lasting(nil))
		running := w.later(w.Context(), "web", command("sleep", "infinity"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := w.registry.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("Wait says %v after %v", err, time.Since(began))
		}
		got := <-running
		got.wantOutcome(w, live.OutcomeUnknown)
		if got.exec.Status.Reason != reasonShutdown {
			t.Errorf("reason is %q", got.exec.Status.Reason)
		}
	})
}

func TestWaitReturnsWithTheLastUse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		release := make(chan struct{})
		w.fake.OnExec(lasting(release))
		running := w.later(w.Context(), "web", command("sleep"))
		synctest.Wait()
		waited := make(chan error)
		go func() { waited <- w.registry.Wait(context.Background()) }()
		synctest.Wait()
		close(release)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		(<-running).wantOutcome(w, live.OutcomeCompleted)
	})
}

func TestUsesAreLimited(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		flag   string
		other  func(*http.Request)
	}{
		"by user": {Limits{StreamsPerUser: 1}, "--max-streams-per-user", as("bob")},
		"by pool": {Limits{StreamsPerPool: 1}, "--max-streams-per-pool", nil},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				release := make(chan struct{})
				w.fake.OnExec(lasting(release))
				running := w.later(w.Context(), "web", command("sleep"))
				synctest.Wait()
				w.post(w.Context(), "web", command("true")).wantRefusal(w, http.StatusTooManyRequests, test.flag, "1")
				bobs := w.later(w.Context(), "web", command("sleep"), as("bob"))
				synctest.Wait()
				if ran := w.execs(); (ran == 2) != (test.other != nil) {
					t.Errorf("%d commands run", ran)
				}
				close(release)
				<-running
				<-bobs
				w.post(w.Context(), "web", command("true")).wantOutcome(w, live.OutcomeCompleted)
				if u := w.registry.uses; len(u.users)+len(u.pools) != 0 {
					t.Errorf("users %v and pools %v are left", u.users, u.pools)
				}
			}, func(c *Config) { c.Limits = test.limits })
		})
	}
}
