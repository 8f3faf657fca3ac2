package session

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// lineWith returns the first audit line that has the words.
func (f *fixture) lineWith(words string) string {
	for line := range strings.SplitSeq(f.Audit(), "\n") {
		if strings.Contains(line, words) {
			return line
		}
	}
	return ""
}

func (f *fixture) wantLine(words string, facts ...string) {
	f.Helper()
	line := f.lineWith(words)
	for _, fact := range facts {
		if !strings.Contains(line, fact) {
			f.Errorf("%s is missing in %q of %s", fact, line, f.Audit())
		}
	}
}

func TestARecreatedUserDoesNotInheritASession(t *testing.T) {
	inSessions(t, func(f *fixture) {
		first := request.WithUser(asUser(f.Context(), "alice"), &user.DefaultInfo{Name: "alice", UID: "1"})
		wanted := &live.Session{Spec: live.SessionSpec{Pool: "web"}}
		created, err := f.sessions.Create(first, wanted, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		name := created.(*live.Session).Name
		f.run(f.Context(), name, "cd /secret", registrytest.AsOneOf("alice", "1")).WantOutcome(f, live.OutcomeCompleted)
		for _, uid := range []string{"2", ""} {
			f.run(f.Context(), name, "pwd", registrytest.AsOneOf("alice", uid)).
				WantRefusal(f, http.StatusForbidden, "only its creator", "no other user of that name", "create one of your own")
		}
		if got := f.session(name).Status.CommandCount; got != 1 {
			t.Errorf("%d commands ran", got)
		}
	})
}

func TestWhoTriedAnothersSessionIsAudited(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		f.run(f.Context(), name, "pwd", registrytest.AsOneOf("mal\u200blory", "7")).WantRefusal(f, http.StatusForbidden)
		f.wantLine(`"use refused"`, `"user"="mal\u200blory"`, `"uid"="7"`, `"namespace"="team"`, `"pool"="web"`, `"subresource"="exec"`,
			`"session"="`+name+`"`, `"code"=403`, "only its creator")
	})
	inSessions(t, func(f *fixture) {
		f.run(f.Context(), "none", "pwd").WantRefusal(f, http.StatusNotFound)
		f.wantLine(`"use refused"`, `"user"="alice"`, `"session"="none"`, `"code"=404`)
	})
}

func TestTheAuditSaysWhoDeletedASession(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		if _, _, err := f.sessions.Delete(asUser(f.Context(), "adm\u200bin"), name, nil, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(3 * time.Second) // of which a shell has 2 to leave
		f.wantLine(`"session ended"`, `"user"="alice"`, `"reason"="Deleted"`, `"deletedBy"="adm\u200bin"`)
	})
	inSessions(t, func(f *fixture) {
		f.run(f.Context(), f.create().Name, "exit 3")
		time.Sleep(3 * time.Second)
		if line := f.lineWith(`"session ended"`); line == "" || strings.Contains(line, "deletedBy") {
			t.Errorf("the line is %q", line)
		}
	})
}

func TestACommandInASessionEndsWithThePermissionToUseSessions(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		running := f.runLater(f.Context(), name, "sleep 3600")
		f.Authorizer.DecideBy(func(asked authorizer.Attributes) (authorizer.Decision, string, error) {
			if asked.GetResource() == "sessions" {
				return authorizer.DecisionNoOpinion, "", nil
			}
			return authorizer.DecisionAllow, "", nil
		})
		revoked := time.Now()
		got := <-running
		got.WantOutcome(f, live.OutcomeUnknown)
		if after := time.Since(revoked); got.Exec.Status.Reason != "PermissionRevoked" || after > 45*time.Second {
			t.Errorf("it ended after %v: %+v", after, got.Exec.Status)
		}
	})
}

// panicking is a context that breaks what asks whether it has ended.
type panicking struct{ context.Context }

func (panicking) Err() error { panic("broken") }

func TestASessionIsNotBusyAfterAPanic(t *testing.T) {
	for name, act := range map[string]func(context.Context, exec.Runner){
		"while a command runs": func(ctx context.Context, r exec.Runner) {
			_, _ = r.Run(panicking{ctx}, driver.Command{Shell: "pwd"}, driver.Streams{Stdout: io.Discard, Stderr: io.Discard})
		},
		"before a command runs": func(context.Context, exec.Runner) { panic("before") },
	} {
		t.Run(name, func(t *testing.T) {
			inSessions(t, func(f *fixture) {
				session := f.create().Name
				ctx := asUser(f.Context(), "alice")
				_, backend, err := f.sessions.AdmitCommand(ctx, session)
				if err != nil {
					t.Fatal(err)
				}
				runner, err := backend.Open(ctx, &exec.Command{})
				if err != nil {
					t.Fatal(err)
				}
				func() {
					defer func() {
						if recover() == nil {
							t.Error("nothing has panicked")
						}
					}()
					defer runner.Close()
					act(ctx, runner)
				}()
				synctest.Wait()
				if got := f.session(session).Status; got.State == live.SessionBusy {
					t.Errorf("the session is %+v", got)
				}
				answered := f.runLater(f.Context(), session, "pwd")
				time.Sleep(time.Minute)
				select {
				case <-answered:
				default:
					t.Error("the next command hangs")
				}
			})
		})
	}
}
