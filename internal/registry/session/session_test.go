package session

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestASessionKeepsItsShell(t *testing.T) {
	inSessions(t, func(f *fixture) {
		created := f.create(func(s *live.Session) {
			s.Spec.Env, s.Labels, s.Annotations = map[string]string{"TOKEN": "secret"}, map[string]string{"a": "b"}, map[string]string{"c": "d"}
		})
		name := created.Name
		if !strings.HasPrefix(name, "web-") || created.UID == "" || created.Spec.Env != nil || created.Labels["a"] != "b" || created.Annotations != nil {
			t.Errorf("created %+v", created)
		}
		status := created.Status
		if status.State != live.SessionReady || status.Owner != "alice" || status.Target != "web-1" || status.Connection == "" ||
			created.Spec.TTLSeconds != 3600 || created.Spec.IdleTimeoutSeconds != 600 || time.Until(status.ExpirationTime.Time) != time.Hour {
			t.Errorf("created with status %+v", status)
		}
		f.run(f.Context(), name, "cd /tmp").WantOutcome(f, live.OutcomeCompleted)
		got := f.run(f.Context(), name, "pwd")
		got.WantOutcome(f, live.OutcomeCompleted)
		result := got.Exec.Status
		if result.Stdout != "/tmp\n" || result.Target != "web-1" || result.Connection != status.Connection || result.RequestID == "" || result.Acquired != live.AcquiredWarm {
			t.Errorf("the result is %+v", result)
		}
		if got := f.run(f.Context(), name, "false"); *got.Exec.Status.ExitCode != 1 || got.Exec.Name != name {
			t.Errorf("false is %+v", got.Exec)
		}
		got = f.runExec(f.Context(), name, registrytest.Command("echo", "words"))
		if got.Exec.Status.Stderr != "words\n" {
			t.Errorf("the result is %+v", got.Exec.Status)
		}
		now := f.session(name).Status
		if now.CommandCount != 4 || now.LastUsedTime == nil || f.Leases() != 1 {
			t.Errorf("after 4 commands: %+v, %d leases", now, f.Leases())
		}
		if lines := f.Audit(); !strings.Contains(lines, "session started") || !strings.Contains(lines, `"session"="`+name+`"`) || strings.Contains(lines, "secret") {
			t.Errorf("audit says %s", lines)
		}
	})
}

func TestASessionAndItsCommandsAreInTheHistory(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create(func(*live.Session) {}).Name
		f.run(f.Context(), name, "false")
		synctest.Wait()
		all := f.Gate.History.List(registrytest.Namespace)
		if len(all) != 2 || all[0].Action != live.UseExec || all[0].Session != name || all[0].Result() != "exit 1" ||
			all[1].Action != live.UseSession || all[1].Session != name || all[1].State != live.UseRunning || all[1].User != "alice" {
			t.Errorf("while it lives: %+v", all)
		}
		f.run(f.Context(), name, "exit 0")
		synctest.Wait()
		if ended := f.Gate.History.List(registrytest.Namespace)[2]; ended.State != live.UseEnded || ended.Result() != "ended: Exited" || ended.Outcome != "" {
			t.Errorf("when it has ended: %+v", ended)
		}
	})
}

func TestNamesOfSessions(t *testing.T) {
	inSessions(t, func(f *fixture) {
		f.create(named("build"))
		if _, err := f.tryCreate(live.Session{ObjectMeta: metav1.ObjectMeta{Name: "build"}, Spec: live.SessionSpec{Pool: "web"}}); !apierrors.IsAlreadyExists(err) {
			t.Errorf("the name is taken, but: %v", err)
		}
		if got := f.create(func(s *live.Session) { s.GenerateName = "deploy-" }); !strings.HasPrefix(got.Name, "deploy-") {
			t.Errorf("it is called %s", got.Name)
		}
		f.run(f.Context(), "build", "exit 0")
		synctest.Wait()
		f.create(named("build"))
		if state := f.session("build").Status.State; state != live.SessionReady {
			t.Errorf("a session that has ended keeps its name: %s", state)
		}
		time.Sleep(5 * time.Minute)
		f.run(f.Context(), "build", "pwd")
		time.Sleep(6 * time.Minute) // when the first one of that name would have been forgotten
		if state := f.session("build").Status.State; state != live.SessionReady {
			t.Errorf("its namesake has taken it along: %s", state)
		}
	})
}

// saidIn returns the message of a refusal, and the fields that it is about.
func saidIn(err error) string {
	said := []string{err.Error()}
	if details := err.(apierrors.APIStatus).Status().Details; details != nil {
		for _, cause := range details.Causes {
			said = append(said, cause.Field)
		}
	}
	return strings.Join(said, " ")
}

func TestSessionsThatAreRefused(t *testing.T) {
	tests := map[string]struct {
		change func(*live.Session)
		code   int32
		words  string
	}{
		"no pool":                    {func(s *live.Session) { s.Spec.Pool = "" }, 400, "spec.pool"},
		"a pool that does not exist": {func(s *live.Session) { s.Spec.Pool = "nowhere" }, 404, "nowhere"},
		"an unknown target":          {func(s *live.Session) { s.Spec.Target = "web-9" }, 404, "web-9"},
		"a container on a host":      {func(s *live.Session) { s.Spec.Container = "c" }, 400, "spec.container"},
		"a pod on a host":            {func(s *live.Session) { s.Spec.Pod = "p" }, 400, "spec.pod"},
		"a bad name":                 {named("No Name"), 400, "metadata.name"},
		"a bad generateName":         {func(s *live.Session) { s.GenerateName = "No " }, 400, "metadata.generateName"},
		"a bad variable":             {func(s *live.Session) { s.Spec.Env = map[string]string{"a-b": "secret"} }, 400, "spec.env"},
		"a negative ttl":             {func(s *live.Session) { s.Spec.TTLSeconds = -1 }, 400, "spec.ttlSeconds"},
		"a ttl beyond a day":         {func(s *live.Session) { s.Spec.TTLSeconds = 86401 }, 400, "spec.ttlSeconds"},
		"an idle timeout too long":   {func(s *live.Session) { s.Spec.IdleTimeoutSeconds = 86401 }, 400, "spec.idleTimeoutSeconds"},
		"bad labels":                 {func(s *live.Session) { s.Labels = map[string]string{"a": "b c"} }, 400, "metadata.labels"},
	}
	inSessions(t, func(f *fixture) {
		for name, tc := range tests {
			wanted := live.Session{Spec: live.SessionSpec{Pool: "web"}}
			tc.change(&wanted)
			_, err := f.tryCreate(wanted)
			code := apierrors.ReasonForError(err)
			if err == nil || err.(apierrors.APIStatus).Status().Code != tc.code || !strings.Contains(saidIn(err), tc.words) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %s %v", name, code, err)
			}
		}
		if f.Leases() != 0 || f.Execs() != 0 {
			t.Errorf("%d leases, %d shells", f.Leases(), f.Execs())
		}
		_, err := f.sessions.Create(asUser(f.Context(), "alice"), &live.Session{Spec: live.SessionSpec{Pool: "web"}}, nil, &metav1.CreateOptions{DryRun: []string{"All"}})
		if err == nil {
			t.Error("it cannot only be tried")
		}
	})
}

func TestThereIsNoSessionWithoutAShell(t *testing.T) {
	failing := func(err *driver.Error, code int) drivertest.ExecFunc {
		return func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			if err != nil {
				return driver.ExitStatus{}, err
			}
			return driver.ExitStatus{Code: code}, nil
		}
	}
	tests := map[string]struct {
		exec drivertest.ExecFunc
		code int32
		word string
	}{
		"no sh":      {failing(nil, 127), 400, "POSIX"},
		"no pod":     {failing(&driver.Error{Reason: driver.NotFound, Message: "there is no such pod"}, 0), 400, "no such pod"},
		"no network": {failing(&driver.Error{Reason: driver.Unreachable, Message: "it is gone"}, 0), 503, "gone"},
		"no answer": {func(ctx context.Context, _ *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			<-ctx.Done()
			return driver.ExitStatus{}, ctx.Err()
		}, 503, "10s"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inSessions(t, func(f *fixture) {
				f.Fake.OnExec(tc.exec)
				_, err := f.tryCreate(live.Session{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: live.SessionSpec{Pool: "web"}})
				if err == nil || err.(apierrors.APIStatus).Status().Code != tc.code || !strings.Contains(err.Error(), tc.word) {
					t.Errorf("answered %v", err)
				}
				synctest.Wait()
				if _, err := f.sessions.Get(asUser(f.Context(), "alice"), "s", nil); !apierrors.IsNotFound(err) || f.Leases() != 0 {
					t.Errorf("it is there: %v, %d leases", err, f.Leases())
				}
				if !f.Idle() {
					t.Error("a use is counted")
				}
			})
		})
	}
}

// The server allows fewer channels on a connection than its pool believes.
func TestAShellTriesAnotherConnection(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.ConnectWith(f.Target("web-1", "web"), f.Fake, func(p *poolset.Policy) { p.Max = 2 }, f.Pool("web", registrytest.LeastLoaded))
		refused := false
		f.Fake.OnExec(func(ctx context.Context, conn *drivertest.FakeConn, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			if !refused {
				refused = true
				return driver.ExitStatus{}, &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "no more sessions"}
			}
			return playShell(ctx, conn, command, streams)
		})
		name := f.create().Name
		f.run(f.Context(), name, "pwd").WantOutcome(f, live.OutcomeCompleted)
		_ = f.wait(context.Background())
	})
}

func TestOnlyItsCreatorUsesASession(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		f.run(f.Context(), name, "pwd", registrytest.As("mallory")).WantRefusal(f, http.StatusForbidden, "only its creator")
		if f.session(name).Status.CommandCount != 0 {
			t.Error("it ran")
		}
		if err := f.drop(name); err != nil {
			t.Errorf("who may delete cannot: %v", err)
		}
		f.run(f.Context(), name, "pwd").WantRefusal(f, http.StatusNotFound, name)
	})
	for name, tc := range map[string]struct {
		owner, who user.DefaultInfo
		want       bool
	}{
		"the same":           {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "a", UID: "1"}, true},
		"both without a UID": {user.DefaultInfo{Name: "a"}, user.DefaultInfo{Name: "a"}, true},
		"without a UID":      {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "a"}, false},
		"now with a UID":     {user.DefaultInfo{Name: "a"}, user.DefaultInfo{Name: "a", UID: "1"}, false},
		"a namesake":         {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "a", UID: "2"}, false},
		"another user":       {user.DefaultInfo{Name: "a"}, user.DefaultInfo{Name: "b"}, false},
		"a UID is no excuse": {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "b", UID: "1"}, false},
	} {
		if got := owns(&tc.owner, &tc.who); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestSessionsNeedThePoolsExec(t *testing.T) {
	without := func(resource string) func(authorizer.Attributes) (authorizer.Decision, string, error) {
		return func(a authorizer.Attributes) (authorizer.Decision, string, error) {
			if a.GetResource() == resource && a.GetSubresource() == "exec" && a.GetVerb() == "create" {
				return authorizer.DecisionNoOpinion, "no rule allows it", nil
			}
			return authorizer.DecisionAllow, "", nil
		}
	}
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		for _, resource := range []string{"sessions", "connectionpools"} {
			f.Authorizer.DecideBy(without(resource))
			f.run(f.Context(), name, "pwd").WantRefusal(f, http.StatusForbidden, resource+"/exec")
		}
		if _, err := f.tryCreate(live.Session{Spec: live.SessionSpec{Pool: "web"}}); !apierrors.IsForbidden(err) {
			t.Errorf("created without the pool's exec: %v", err)
		}
		if f.session(name).Status.CommandCount != 0 || f.Leases() != 1 {
			t.Error("something ran")
		}
	})
}

func TestHowSessionsEnd(t *testing.T) {
	tests := map[string]struct {
		end    func(*fixture, string)
		within time.Duration
		reason string
		words  string
	}{
		"idle for too long":   {func(*fixture, string) {}, 600 * time.Second, "Idle", "idleTimeoutSeconds"},
		"the shell exits":     {func(f *fixture, name string) { f.run(f.Context(), name, "exit 3") }, 0, "Exited", "code 3"},
		"the connection dies": {func(f *fixture, _ string) { f.Fake.Live()[0].Kill(nil) }, 0, "Unreachable", "reset"},
		"the permission is revoked": {func(f *fixture, _ string) {
			f.Authorizer.Decide(authorizer.DecisionNoOpinion, nil)
			time.Sleep(15 * time.Second)
			synctest.Wait()
			f.Authorizer.Decide(authorizer.DecisionAllow, nil)
		}, 15 * time.Second, "PermissionRevoked", "create"},
		"its time is over": {func(f *fixture, name string) {
			for range 12 {
				time.Sleep(299 * time.Second)
				f.run(f.Context(), name, "pwd").WantOutcome(f, live.OutcomeCompleted)
			}
		}, time.Hour, "Expired", "ttlSeconds"},
		"the caller of a command leaves": {func(f *fixture, name string) {
			ctx, cancel := context.WithTimeout(f.Context(), time.Second)
			defer cancel()
			f.run(ctx, name, "sleep 60").WantOutcome(f, live.OutcomeUnknown)
		}, time.Second, "Timeout", "stopped waiting"},
		"the operator is shut down": {func(f *fixture, _ string) { f.sessions.EndWhenIdle() }, 0, "ShuttingDown", "shut down"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inSessions(t, func(f *fixture) {
				began := time.Now()
				session := f.create().Name
				tc.end(f, session)
				time.Sleep(time.Until(began.Add(tc.within)))
				synctest.Wait()
				got := f.session(session).Status
				if got.State != live.SessionEnded || got.Reason != tc.reason || !strings.Contains(got.Message, tc.words) || !strings.Contains(got.Message, "create another") {
					t.Errorf("the status is %+v", got)
				}
				refusal := f.run(f.Context(), session, "pwd")
				refusal.WantRefusal(f, http.StatusGone, tc.words, "create another")
				if got := registrytest.Causes(refusal.Status); got[live.CauseOutcome] != "NotStarted" || got[live.CauseReason] != tc.reason {
					t.Errorf("the causes are %v", got)
				}
				time.Sleep(3 * time.Second) // of which a shell has 2 to leave
				if f.Leases() != 0 || !f.Idle() {
					t.Errorf("%d leases, nothing is used: %t", f.Leases(), f.Idle())
				}
				if lines := f.Audit(); !strings.Contains(lines, "session ended") || !strings.Contains(lines, `"reason"="`+tc.reason+`"`) {
					t.Errorf("audit says %s", lines)
				}
				time.Sleep(10 * time.Minute)
				if _, err := f.sessions.Get(asUser(f.Context(), "alice"), session, nil); !apierrors.IsNotFound(err) {
					t.Errorf("it is not forgotten: %v", err)
				}
			})
		})
	}
}

func TestABusySessionIsNotIdle(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create(func(s *live.Session) { s.Spec.IdleTimeoutSeconds = 5 }).Name
		first := f.runLater(f.Context(), name, "sleep 60")
		second := f.runLater(f.Context(), name, "sleep 1")
		if state := f.session(name).Status.State; state != live.SessionBusy {
			t.Errorf("it is %s", state)
		}
		(<-first).WantOutcome(f, live.OutcomeCompleted)
		(<-second).WantOutcome(f, live.OutcomeCompleted)
		time.Sleep(4 * time.Second)
		if state := f.session(name).Status.State; state != live.SessionReady {
			t.Errorf("it is %s", state)
		}
		time.Sleep(2 * time.Second)
		if reason := f.session(name).Status.Reason; reason != "Idle" {
			t.Errorf("it ended because of %q", reason)
		}
	})
}

func TestDeletingASessionEndsWhatRunsInIt(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		running := f.runLater(f.Context(), name, "sleep 60")
		waiting := f.runLater(f.Context(), name, "pwd")
		other := types.UID("another")
		_, _, err := f.sessions.Delete(asUser(f.Context(), "admin"), name, nil, &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
		if !apierrors.IsConflict(err) {
			t.Errorf("another one was deleted: %v", err)
		}
		if err := f.drop(name); err != nil {
			t.Fatal(err)
		}
		got := <-running
		got.WantOutcome(f, live.OutcomeUnknown)
		if got.Exec.Status.Reason != "Deleted" || !strings.Contains(got.Exec.Status.Message, "admin") {
			t.Errorf("the command ended with %+v", got.Exec.Status)
		}
		got = <-waiting
		got.WantOutcome(f, live.OutcomeNotStarted)
		if got.Exec.Status.Reason != "Deleted" || !strings.Contains(got.Exec.Status.Message, "admin") {
			t.Errorf("the command that waited ended with %+v", got.Exec.Status)
		}
		if err := f.drop(name); !apierrors.IsNotFound(err) {
			t.Errorf("it is still there: %v", err)
		}
		ended := f.create().Name
		f.run(f.Context(), ended, "exit 0")
		synctest.Wait()
		if err := f.drop(ended); err != nil {
			t.Errorf("an ended one stays: %v", err)
		}
		if list := f.list(""); len(list) != 0 {
			t.Errorf("still listed: %v", list)
		}
	})
}

func TestShuttingDownWaitsForCommandsAndNotForSessions(t *testing.T) {
	inSessions(t, func(f *fixture) {
		idle, busy := f.create().Name, f.create().Name
		running := f.runLater(f.Context(), busy, "sleep 30")
		waited := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			if err := f.wait(f.Context()); err != nil {
				f.Error(err)
			}
			waited <- time.Since(began)
		}()
		synctest.Wait()
		if got := f.session(idle).Status; got.Reason != "ShuttingDown" {
			t.Errorf("the idle one is %+v", got)
		}
		f.run(f.Context(), busy, "pwd").WantRefusal(f, http.StatusGone, "shut down")
		if _, err := f.tryCreate(live.Session{Spec: live.SessionSpec{Pool: "web"}}); err == nil || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("another one is created: %v", err)
		}
		(<-running).WantOutcome(f, live.OutcomeCompleted)
		if took := <-waited; took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestImpatienceEndsWhatRunsInSessions(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Fake.OnExec(playShell)
		f.Web()
		running := f.runLater(f.Context(), f.create().Name, "sleep 3000")
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
		defer cancel()
		if err := f.wait(ctx); err == nil {
			t.Error("it was patient")
		}
		got := <-running
		got.WantOutcome(f, live.OutcomeUnknown)
		if got.Exec.Status.Reason != "ShuttingDown" {
			t.Errorf("it ended with %+v", got.Exec.Status)
		}
	})
}

func TestARepeatedCommandRunsOnceInItsSession(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name, other := f.create().Name, f.create().Name
		object := live.Exec{Spec: live.ExecSpec{Shell: "pwd", RequestID: "one"}}
		for range 3 {
			f.runExec(f.Context(), name, object).WantOutcome(f, live.OutcomeCompleted)
		}
		f.runExec(f.Context(), other, object).WantOutcome(f, live.OutcomeCompleted)
		if n, m := f.session(name).Status.CommandCount, f.session(other).Status.CommandCount; n != 1 || m != 1 {
			t.Errorf("it ran %d times, and %d times in the other session", n, m)
		}
		object.Spec.Shell = "false"
		f.runExec(f.Context(), name, object).WantRefusal(f, http.StatusConflict, "requestID")
	})
}

func TestATimeoutEndsTheSessionWithItsCommand(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		got := f.runExec(f.Context(), name, live.Exec{Spec: live.ExecSpec{Shell: "sleep 60", TimeoutSeconds: 2}})
		got.WantOutcome(f, live.OutcomeUnknown)
		if got.Exec.Status.Reason != "Timeout" || !strings.Contains(got.Exec.Status.Message, "timeoutSeconds") ||
			!strings.Contains(got.Exec.Status.Message, "create another") {
			t.Errorf("it ended with %+v", got.Exec.Status)
		}
		if state := f.session(name).Status.State; state != live.SessionEnded {
			t.Errorf("the session is %s", state)
		}
	})
}

func TestASessionIsOneUse(t *testing.T) {
	inSessions(t, func(f *fixture) {
		first := f.create().Name
		second := f.create().Name
		_, err := f.tryCreate(live.Session{Spec: live.SessionSpec{Pool: "web"}})
		if !apierrors.IsTooManyRequests(err) {
			t.Errorf("a third one: %v", err)
		}
		f.Post(f.Context(), "web", registrytest.Command("true")).WantRefusal(f, http.StatusTooManyRequests, "2")
		for _, name := range []string{first, second} {
			f.run(f.Context(), name, "pwd").WantOutcome(f, live.OutcomeCompleted)
		}
		_ = f.drop(first)
		synctest.Wait()
		f.create()
	}, func(c *use.Config) { c.Limits.StreamsPerUser = 2 })
}

func TestCommandsThatNoSessionTakes(t *testing.T) {
	inSessions(t, func(f *fixture) {
		name := f.create().Name
		for field, change := range map[string]func(*live.ExecSpec){
			"spec.target":    func(s *live.ExecSpec) { s.Target = "web-1" },
			"spec.container": func(s *live.ExecSpec) { s.Container = "c" },
			"spec.pod":       func(s *live.ExecSpec) { s.Pod = "p" },
			"spec.namespace": func(s *live.ExecSpec) { s.Namespace = "n" },
			"spec.env":       func(s *live.ExecSpec) { s.Env = map[string]string{"A": "b"} },
			"spec.stdin":     func(s *live.ExecSpec) { s.Stdin = []byte("in") },
			"spec.subsystem": func(s *live.ExecSpec) { s.Shell, s.Subsystem = "", "sftp" },
			"spec.command":   func(s *live.ExecSpec) { s.Command = []string{"true"} },
			"spec.shell":     func(s *live.ExecSpec) { s.Shell = "a\x00b" },
		} {
			object := live.Exec{Spec: live.ExecSpec{Shell: "true"}}
			change(&object.Spec)
			f.runExec(f.Context(), name, object).WantRefusal(f, http.StatusBadRequest, field)
		}
		for field, query := range map[string]string{
			"target": "target=web-1", "container": "container=c", "pod": "pod=p", "namespace": "namespace=n", "env": "env=A%3Db",
			"stdin": "stdin=1", "tty": "tty=1", "term": "term=xterm", "subsystem": "subsystem=sftp",
		} {
			req := f.request("/sessions/" + name + "/exec?command=true&stdout=1&" + query)
			registrytest.Upgrading(req)
			f.Send(req).WantRefusal(f, http.StatusBadRequest, field)
		}
		if n := f.session(name).Status.CommandCount; n != 0 {
			t.Errorf("%d ran", n)
		}
		f.Send(f.request("/sessions/"+name+"/exec?command=true")).WantRefusal(f, http.StatusBadRequest, "POST")
	})
}

// list returns the names of sessions that a field selector chooses.
func (f *fixture) list(selector string) (names []string) {
	f.Helper()
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		f.Fatal(err)
	}
	list, err := f.sessions.List(asUser(f.Context(), "bob"), &metainternalversion.ListOptions{FieldSelector: parsed})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range list.(*live.SessionList).Items {
		names = append(names, s.Name)
	}
	return names
}

func TestListsOfSessions(t *testing.T) {
	inSessions(t, func(f *fixture) {
		f.Connect(f.Target("db-1", "db"), f.Pool("db", registrytest.LeastLoaded))
		f.create(named("b"))
		f.create(named("a"))
		f.create(named("c"), func(s *live.Session) { s.Spec.Pool = "db" })
		f.run(f.Context(), "b", "exit 0")
		synctest.Wait()
		for selector, want := range map[string]string{
			"": "[a b c]", "pool=web": "[a b]", "target=db-1": "[c]", "metadata.name=a": "[a]", "pool!=web": "[c]", "state=Ended": "[b]",
		} {
			if got := fmt.Sprint(f.list(selector)); got != want {
				t.Errorf("%s selects %s, want %s", selector, got, want)
			}
		}
		if _, err := f.sessions.List(asUser(f.Context(), "bob"), &metainternalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("owner", "a")}); !apierrors.IsBadRequest(err) {
			t.Errorf("an unknown field: %v", err)
		}
		f.tableSays("b", "b web web-1 Ended: Exited alice 1 0s <none> 0s")
		f.tableSays("a", "a web web-1 Ready alice 0 <none> in 60m 0s")
	})
}

// tableSays compares the narrow row of a session.
func (f *fixture) tableSays(name, want string) {
	f.Helper()
	table, err := f.sessions.ConvertToTable(f.Context(), runtime.Object(f.session(name)), nil)
	if err != nil {
		f.Fatal(err)
	}
	var cells []string
	for i, cell := range table.Rows[0].Cells {
		if table.ColumnDefinitions[i].Priority == 0 {
			cells = append(cells, fmt.Sprint(cell))
		}
	}
	if got := strings.Join(cells, " "); got != want {
		f.Errorf("the row is %q, want %q", got, want)
	}
}

// request returns a GET request.
func (f *fixture) request(path string) *http.Request {
	return httptest.NewRequestWithContext(f.Context(), http.MethodGet, path, http.NoBody)
}
