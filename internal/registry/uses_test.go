package registry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// uses lists the uses with these options.
func (f *fixture) uses(options *metainternalversion.ListOptions) *live.UseList {
	f.Helper()
	object, err := f.registry.Storage()["uses"].(rest.Lister).List(f.inNamespace(registrytest.Namespace), options)
	if err != nil {
		f.Fatal(err)
	}
	return object.(*live.UseList)
}

func (f *fixture) onlyUse() live.Use {
	f.Helper()
	all := f.uses(nil).Items
	if len(all) != 1 {
		f.Fatalf("%d uses, want 1: %+v", len(all), all)
	}
	return all[0]
}

func TestWhatTheHistorySaysOfACommand(t *testing.T) {
	for name, words := range map[string]bool{"with the words of commands": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(c *use.Config) { c.AuditCommands = words })
				defer f.Close()
				f.Web()
				release := make(chan struct{})
				f.Fake.OnExec(registrytest.Lasting(release))
				object := registrytest.Identified("id-1", "deploy", "now")
				object.Spec.Env, object.Spec.Stdin = map[string]string{"A": "secret"}, []byte("secret")
				answered := f.Later(f.Context(), "web", object)
				time.Sleep(2 * time.Second)
				running := f.onlyUse()
				if running.State != live.UseRunning || running.User != "alice" || running.Result() != "running" || running.DurationMicroseconds != 2e6 {
					t.Errorf("while it runs it is %+v", running)
				}
				close(release)
				<-answered
				got := f.onlyUse()
				if got.State != live.UseEnded || got.Outcome != live.OutcomeCompleted || got.ExitCode == nil || *got.ExitCode != 0 || got.Result() != "exit 0" ||
					got.Pool != "web" || got.Target != "web-1" || got.Action != live.UseExec || got.RequestID != "id-1" || got.Connection == "" ||
					got.Acquired != live.AcquiredWarm || got.Transport != "json" || got.Replica != "replica-0" || got.EndTime == nil {
					t.Errorf("it ended as %+v", got)
				}
				if (len(got.Command) == 2) != words {
					t.Errorf("its command is %q", got.Command)
				}
			})
		})
	}
}

func TestWhatTheHistorySaysOfFailures(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(*fixture)
		result  string
	}{
		"a command whose connection was lost": {func(f *fixture) {
			f.Web()
			f.Fake.OnExec(registrytest.Failing(&driver.Error{Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "lost"}))
		}, "unknown: Unreachable"},
		"a target that is down": {func(f *fixture) {
			f.Fake.OnDial(func(context.Context, driver.Endpoint) error {
				return &driver.Error{Reason: driver.AuthenticationFailed, Message: "the key is refused"}
			})
			f.Web()
		}, "refused: AuthenticationFailed"},
		"a request that cannot be understood": {func(f *fixture) { f.Pool("web") }, "refused: BadRequest"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				test.arrange(f)
				f.Post(f.Context(), "web", registrytest.Command("true"))
				if got := f.onlyUse(); got.Result() != test.result {
					t.Errorf("the result is %q, want %q: %+v", got.Result(), test.result, got)
				}
			})
		})
	}
}

// They could fill the history of a namespace in which they have no rights.
func TestUsersWithoutThePermissionAreNotInTheHistory(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Authorizer.Decide(authorizer.DecisionNoOpinion, errors.New("no"))
		f.Post(f.Context(), "web", registrytest.Command("true"), registrytest.As("mallory"))
		if all := f.uses(nil).Items; len(all) != 0 {
			t.Errorf("the history has %+v", all)
		}
	})
}

func TestTheHistoryIsSelectedAndPagedNewestFirst(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		for _, user := range []string{"alice", "bob", "alice", "alice"} {
			f.Post(f.Context(), "web", registrytest.Command("true"), registrytest.As(user))
		}
		byAlice := &metainternalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector(live.FieldUser, "alice"), Limit: 2}
		first := f.uses(byAlice)
		byAlice.Continue = first.Continue
		second := f.uses(byAlice)
		if len(first.Items) != 2 || first.Continue == "" || len(second.Items) != 1 || second.Continue != "" {
			t.Errorf("pages of %d and %d", len(first.Items), len(second.Items))
		}
		newest, oldest := first.Items[0], second.Items[0]
		if !newest.CreationTimestamp.After(oldest.CreationTimestamp.Time) && newest.Name == oldest.Name {
			t.Errorf("%s is before %s", newest.Name, oldest.Name)
		}
		storage := f.registry.Storage()["uses"].(rest.Getter)
		if object, err := storage.Get(f.inNamespace(registrytest.Namespace), newest.Name, nil); err != nil || object.(*live.Use).Name != newest.Name {
			t.Errorf("get: %v, %v", object, err)
		}
		if _, err := storage.Get(f.inNamespace("other"), newest.Name, nil); !apierrors.IsNotFound(err) {
			t.Errorf("in another namespace: %v", err)
		}
		table, err := f.registry.Storage()["uses"].(rest.TableConvertor).ConvertToTable(f.Context(), first, &metav1.TableOptions{})
		if err != nil || len(table.Rows) != 2 {
			t.Errorf("table %+v, %v", table, err)
		}
		for _, bad := range []string{"no token", "MA", "YQ"} {
			if _, err := f.registry.Storage()["uses"].(rest.Lister).List(f.inNamespace(registrytest.Namespace), &metainternalversion.ListOptions{Continue: bad}); !apierrors.IsBadRequest(err) {
				t.Errorf("the token %q: %v", bad, err)
			}
		}
	})
}
