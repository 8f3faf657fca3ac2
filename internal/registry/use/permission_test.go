package use_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestEveryTransportNeedsCreate(t *testing.T) {
	for name, test := range map[string]struct {
		path   string
		change func(*http.Request)
		want   string
	}{
		"a command in a WebSocket":      {"/pools/web/exec?command=id&stdout=1", registrytest.Upgrading, "exec"},
		"a command as JSON":             {"/pools/web/exec", func(*http.Request) {}, "exec"},
		"a forward in a WebSocket":      {"/pools/web/portforward", registrytest.Upgrading, "portforward"},
		"a GET of a target's own API":   {"/pools/web/proxy/web-1/version", func(req *http.Request) { req.Method = http.MethodGet }, "proxy"},
		"a plain GET where nothing can": {"/pools/web/exec", func(req *http.Request) { req.Method = http.MethodGet }, "exec"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Authorizer.DecideBy(registrytest.OnlyGet)
				req := httptest.NewRequestWithContext(f.Context(), http.MethodPost, test.path, http.NoBody)
				test.change(req)
				f.Send(req).WantRefusal(f, http.StatusForbidden, `"alice"`, "create", "connectionpools/"+test.want, "no rule allows it")
				if f.Execs() != 0 {
					t.Error("something ran")
				}
				asked := f.Authorizer.Questions()
				if len(asked) != 1 {
					t.Fatalf("the authorizer was asked %d times", len(asked))
				}
				a := asked[0]
				got := [...]string{a.GetVerb(), a.GetAPIGroup(), a.GetAPIVersion(), a.GetResource(), a.GetSubresource(), a.GetNamespace(), a.GetName(), a.GetUser().GetName()}
				want := [...]string{"create", "live.connpool.dev", "v1alpha1", "connectionpools", test.want, registrytest.Namespace, "web", "alice"}
				if got != want || !a.IsResourceRequest() || a.GetPath() != req.URL.Path {
					t.Errorf("the authorizer was asked %v", got)
				}
			})
		})
	}
}

func TestWhatCannotBeDecidedIsNotPermitted(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Authorizer.Decide(authorizer.DecisionNoOpinion, errors.New("canary: connection refused"))
		got := f.Post(f.Context(), "web", registrytest.Command("id"))
		got.WantRefusal(f, http.StatusServiceUnavailable, "cannot find out now")
		if f.Execs() != 0 {
			t.Error("something ran")
		}
	})
}

func TestARevokedPermissionEndsWhatRuns(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(registrytest.Lasting(nil))
		running := f.Later(f.Context(), "web", registrytest.Command("sleep", "infinity"))
		time.Sleep(20 * time.Second)
		f.Authorizer.Decide(authorizer.DecisionNoOpinion, nil)
		revoked := time.Now()
		got := <-running
		if after := time.Since(revoked); after > use.RecheckPeriod {
			t.Errorf("it ended %v after the permission was revoked", after)
		}
		got.WantOutcome(f, live.OutcomeUnknown)
		if got.Exec.Status.Reason != use.ReasonRevoked {
			t.Errorf("reason is %q", got.Exec.Status.Reason)
		}
	})
}

func TestAnAuthorizerThatIsDownEndsNothing(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		running := f.Later(f.Context(), "web", registrytest.Command("sleep", "infinity"))
		synctest.Wait()
		f.Authorizer.Decide(authorizer.DecisionDeny, errors.New("connection refused"))
		time.Sleep(5*time.Minute + time.Second)
		close(release)
		(<-running).WantOutcome(f, live.OutcomeCompleted)
		if asked := len(f.Authorizer.Questions()); asked != 1+20 {
			t.Errorf("the authorizer was asked %d times in 5 minutes", asked)
		}
	})
}

func TestWhatIsDeletedEndsWhatRuns(t *testing.T) {
	for name, remove := range map[string]func(*fixture){
		"the target": func(f *fixture) { f.Set.Remove("target-web-1") },
		"the pool":   func(f *fixture) { f.Connect(f.Target("web-1", "web")) },
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Fake.OnExec(registrytest.Lasting(nil))
				running := f.Later(f.Context(), "web", registrytest.Command("sleep", "infinity"))
				synctest.Wait()
				remove(f)
				deleted := time.Now()
				(<-running).WantOutcome(f, live.OutcomeUnknown)
				if after := time.Since(deleted); after > 45*time.Second {
					t.Errorf("it ended after %v", after)
				}
			})
		})
	}
}

func TestUsesAreLimited(t *testing.T) {
	for name, test := range map[string]struct {
		limits limits.Limits
		flag   string
		other  func(*http.Request)
	}{
		"by user": {limits.Limits{StreamsPerUser: 1}, "--max-streams-per-user", registrytest.As("bob")},
		"by pool": {limits.Limits{StreamsPerPool: 1}, "--max-streams-per-pool", nil},
		"of all":  {limits.Limits{Streams: 1, NamespaceShare: 1}, "--max-streams", nil},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				release := make(chan struct{})
				f.Fake.OnExec(registrytest.Lasting(release))
				running := f.Later(f.Context(), "web", registrytest.Command("sleep"))
				synctest.Wait()
				f.Post(f.Context(), "web", registrytest.Command("true")).WantRefusal(f, http.StatusTooManyRequests, test.flag, "1")
				bobs := f.Later(f.Context(), "web", registrytest.Command("sleep"), registrytest.As("bob"))
				synctest.Wait()
				if ran := f.Execs(); (ran == 2) != (test.other != nil) {
					t.Errorf("%d commands run", ran)
				}
				close(release)
				<-running
				<-bobs
				f.Post(f.Context(), "web", registrytest.Command("true")).WantOutcome(f, live.OutcomeCompleted)
				if !f.Idle() {
					t.Error("a use is left")
				}
			}, func(c *use.Config) { c.Limits = test.limits })
		})
	}
}
