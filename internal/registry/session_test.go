package registry

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
)

func TestASessionKeepsItsShell(t *testing.T) {
	inSessions(t, func(w *world) {
		created := w.create(func(s *live.Session) {
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
		w.run(w.Context(), name, "cd /tmp").wantOutcome(w, live.OutcomeCompleted)
		got := w.run(w.Context(), name, "pwd")
		got.wantOutcome(w, live.OutcomeCompleted)
		result := got.exec.Status
		if result.Stdout != "/tmp\n" || result.Target != "web-1" || result.Connection != status.Connection || result.RequestID == "" || result.Acquired != live.AcquiredWarm {
			t.Errorf("the result is %+v", result)
		}
		if got := w.run(w.Context(), name, "false"); *got.exec.Status.ExitCode != 1 || got.exec.Name != name {
			t.Errorf("false is %+v", got.exec)
		}
		got = w.runExec(w.Context(), name, command("echo", "words"))
		if got.exec.Status.Stderr != "words\n" {
			t.Errorf("the result is %+v", got.exec.Status)
		}
		now := w.session(name).Status
		if now.CommandCount != 4 || now.LastUsedTime == nil || w.leases() != 1 {
			t.Errorf("after 4 commands: %+v, %d leases", now, w.leases())
		}
		if lines := w.audit(); !strings.Contains(lines, "session started") || !strings.Contains(lines, `"session"="`+name+`"`) || strings.Contains(lines, "secret") {
			t.Errorf("audit says %s", lines)
		}
	})
}

func TestNamesOfSessions(t *testing.T) {
	inSessions(t, func(w *world) {
		w.create(named("build"))
		if _, err := w.tryCreate(live.Session{ObjectMeta: metav1.ObjectMeta{Name: "build"}, Spec: live.SessionSpec{Pool: "web"}}); !apierrors.IsAlreadyExists(err) {
			t.Errorf("the name is taken, but: %v", err)
		}
		if got := w.create(func(s *live.Session) { s.GenerateName = "deploy-" }); !strings.HasPrefix(got.Name, "deploy-") {
			t.Errorf("it is called %s", got.Name)
		}
		w.run(w.Context(), "build", "exit 0")
		synctest.Wait()
		w.create(named("build"))
		if state := w.session("build").Status.State; state != live.SessionReady {
			t.Errorf("a session that has ended keeps its name: %s", state)
		}
		time.Sleep(5 * time.Minute)
		w.run(w.Context(), "build", "pwd")
		time.Sleep(6 * time.Minute) // when the first one of that name would have been forgotten
		if state := w.session("build").Status.State; state != live.SessionReady {
			t.Errorf("its namesake has taken it along: %s", state)
		}
	})
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
	inSessions(t, func(w *world) {
		for name, tc := range tests {
			wanted := live.Session{Spec: live.SessionSpec{Pool: "web"}}
			tc.change(&wanted)
			_, err := w.tryCreate(wanted)
			code := apierrors.ReasonForError(err)
			if err == nil || err.(apierrors.APIStatus).Status().Code != tc.code || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %s %v", name, code, err)
			}
		}
		if w.leases() != 0 || w.execs() != 0 {
			t.Errorf("%d leases, %d shells", w.leases(), w.execs())
		}
		_, err := w.sessions().Create(asUser(w.Context(), "alice"), &live.Session{Spec: live.SessionSpec{Pool: "web"}}, nil, &metav1.CreateOptions{DryRun: []string{"All"}})
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
			inSessions(t, func(w *world) {
				w.fake.OnExec(tc.exec)
				_, err := w.tryCreate(live.Session{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: live.SessionSpec{Pool: "web"}})
				if err == nil || err.(apierrors.APIStatus).Status().Code != tc.code || !strings.Contains(err.Error(), tc.word) {
					t.Errorf("answered %v", err)
				}
				synctest.Wait()
				if _, err := w.sessions().Get(asUser(w.Context(), "alice"), "s", nil); !apierrors.IsNotFound(err) || w.leases() != 0 {
					t.Errorf("it is there: %v, %d leases", err, w.leases())
				}
				if total := w.registry.uses.total; total != 0 {
					t.Errorf("%d uses are counted", total)
				}
			})
		})
	}
}

// A server that allows one session of a connection fewer than its pool believes.
func TestAShellTriesAnotherConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		w.connectWith(w.target("web-1", "web"), w.fake, func(p *poolset.Policy) { p.Max = 2 }, w.pool("web", leastLoaded))
		refused := false
		w.fake.OnExec(func(ctx context.Context, conn *drivertest.FakeConn, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			if !refused {
				refused = true
				return driver.ExitStatus{}, &driver.Error{Reason: driver.SessionLimit, Stage: driver.StageSession, Message: "no more sessions"}
			}
			return shells(ctx, conn, command, streams)
		})
		name := w.create().Name
		w.run(w.Context(), name, "pwd").wantOutcome(w, live.OutcomeCompleted)
		_ = w.registry.Wait(context.Background())
	})
}

func TestOnlyItsCreatorUsesASession(t *testing.T) {
	inSessions(t, func(w *world) {
		name := w.create().Name
		w.run(w.Context(), name, "pwd", as("mallory")).wantRefusal(w, http.StatusForbidden, "only its creator")
		if w.session(name).Status.CommandCount != 0 {
			t.Error("it ran")
		}
		if err := w.drop(name); err != nil {
			t.Errorf("who may delete cannot: %v", err)
		}
		w.run(w.Context(), name, "pwd").wantRefusal(w, http.StatusNotFound, name)
	})
	for name, tc := range map[string]struct {
		owner, who user.DefaultInfo
		want       bool
	}{
		"the same":           {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "a", UID: "1"}, true},
		"without a UID":      {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "a"}, true},
		"a namesake":         {user.DefaultInfo{Name: "a", UID: "1"}, user.DefaultInfo{Name: "a", UID: "2"}, false},
		"somebody else":      {user.DefaultInfo{Name: "a"}, user.DefaultInfo{Name: "b"}, false},
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
	inSessions(t, func(w *world) {
		name := w.create().Name
		for _, resource := range []string{"sessions", "connectionpools"} {
			w.judge.verdict = without(resource)
			w.run(w.Context(), name, "pwd").wantRefusal(w, http.StatusForbidden, resource+"/exec")
		}
		if _, err := w.tryCreate(live.Session{Spec: live.SessionSpec{Pool: "web"}}); !apierrors.IsForbidden(err) {
			t.Errorf("created without the pool's exec: %v", err)
		}
		if w.session(name).Status.CommandCount != 0 || w.leases() != 1 {
			t.Error("something ran")
		}
	})
}

func TestHowSessionsEnd(t *testing.T) {
	tests := map[string]struct {
		end    func(*world, string)
		within time.Duration
		reason string
		words  string
	}{
		"idle for too long":   {func(*world, string) {}, 600 * time.Second, "Idle", "idleTimeoutSeconds"},
		"the shell exits":     {func(w *world, name string) { w.run(w.Context(), name, "exit 3") }, 0, "Exited", "code 3"},
		"the connection dies": {func(w *world, _ string) { w.fake.Live()[0].Kill(nil) }, 0, "Unreachable", "reset"},
		"the permission is revoked": {func(w *world, _ string) {
			w.judge.decide(authorizer.DecisionNoOpinion, nil)
			time.Sleep(15 * time.Second)
			synctest.Wait()
			w.judge.decide(authorizer.DecisionAllow, nil)
		}, 15 * time.Second, "PermissionRevoked", "create"},
		"its time is over": {func(w *world, name string) {
			for range 12 {
				time.Sleep(299 * time.Second)
				w.run(w.Context(), name, "pwd").wantOutcome(w, live.OutcomeCompleted)
			}
		}, time.Hour, "Expired", "ttlSeconds"},
		"the caller of a command leaves": {func(w *world, name string) {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			w.run(ctx, name, "sleep 60").wantOutcome(w, live.OutcomeUnknown)
		}, time.Second, "Timeout", "did not wait"},
		"the operator is shut down": {func(w *world, _ string) { w.registry.shells.leave() }, 0, "ShuttingDown", "shut down"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inSessions(t, func(w *world) {
				began := time.Now()
				session := w.create().Name
				tc.end(w, session)
				time.Sleep(time.Until(began.Add(tc.within)))
				synctest.Wait()
				got := w.session(session).Status
				if got.State != live.SessionEnded || got.Reason != tc.reason || !strings.Contains(got.Message, tc.words) || !strings.Contains(got.Message, "create another") {
					t.Errorf("the status is %+v", got)
				}
				refusal := w.run(w.Context(), session, "pwd")
				refusal.wantRefusal(w, http.StatusGone, tc.words, "create another")
				if got := causes(refusal.status); got[live.CauseOutcome] != "NotStarted" || got[live.CauseReason] != tc.reason {
					t.Errorf("the causes are %v", got)
				}
				time.Sleep(3 * time.Second) // of which a shell has 2 to leave
				if w.leases() != 0 || w.registry.uses.total != 0 {
					t.Errorf("%d leases, %d uses", w.leases(), w.registry.uses.total)
				}
				if lines := w.audit(); !strings.Contains(lines, "session ended") || !strings.Contains(lines, `"reason"="`+tc.reason+`"`) {
					t.Errorf("audit says %s", lines)
				}
				time.Sleep(10 * time.Minute)
				if _, err := w.sessions().Get(asUser(w.Context(), "alice"), session, nil); !apierrors.IsNotFound(err) {
					t.Errorf("it is not forgotten: %v", err)
				}
			})
		})
	}
}

func TestABusySessionIsNotIdle(t *testing.T) {
	inSessions(t, func(w *world) {
		name := w.create(func(s *live.Session) { s.Spec.IdleTimeoutSeconds = 5 }).Name
		first := w.runLater(w.Context(), name, "sleep 60")
		second := w.runLater(w.Context(), name, "sleep 1")
		if state := w.session(name).Status.State; state != live.SessionBusy {
			t.Errorf("it is %s", state)
		}
		(<-first).wantOutcome(w, live.OutcomeCompleted)
		(<-second).wantOutcome(w, live.OutcomeCompleted)
		time.Sleep(4 * time.Second)
		if state := w.session(name).Status.State; state != live.SessionReady {
			t.Errorf("it is %s", state)
		}
		time.Sleep(2 * time.Second)
		if reason := w.session(name).Status.Reason; reason != "Idle" {
			t.Errorf("it ended because of %q", reason)
		}
	})
}

func TestDeletingASessionEndsWhatRunsInIt(t *testing.T) {
	inSessions(t, func(w *world) {
		name := w.create().Name
		running := w.runLater(w.Context(), name, "sleep 60")
		waiting := w.runLater(w.Context(), name, "pwd")
		other := types.UID("another")
		_, _, err := w.sessions().Delete(asUser(w.Context(), "admin"), name, nil, &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
		if !apierrors.IsConflict(err) {
			t.Errorf("another one was deleted: %v", err)
		}
		if err := w.drop(name); err != nil {
			t.Fatal(err)
		}
		got := <-running
		got.wantOutcome(w, live.OutcomeUnknown)
		if got.exec.Status.Reason != "Deleted" || !strings.Contains(got.exec.Status.Message, "admin") {
			t.Errorf("the command ended with %+v", got.exec.Status)
		}
		got = <-waiting
		got.wantOutcome(w, live.OutcomeNotStarted)
		if err := w.drop(name); !apierrors.IsNotFound(err) {
			t.Errorf("it is still there: %v", err)
		}
		ended := w.create().Name
		w.run(w.Context(), ended, "exit 0")
		synctest.Wait()
		if err := w.drop(ended); err != nil {
			t.Errorf("an ended one stays: %v", err)
		}
		if list := w.list(""); len(list) != 0 {
			t.Errorf("still listed: %v", list)
		}
	})
}

func TestShuttingDownWaitsForCommandsAndNotForSessions(t *testing.T) {
	inSessions(t, func(w *world) {
		idle, busy := w.create().Name, w.create().Name
		running := w.runLater(w.Context(), busy, "sleep 30")
		waited := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			if err := w.registry.Wait(w.Context()); err != nil {
				w.Error(err)
			}
			waited <- time.Since(began)
		}()
		synctest.Wait()
		if got := w.session(idle).Status; got.Reason != "ShuttingDown" {
			t.Errorf("the idle one is %+v", got)
		}
		w.run(w.Context(), busy, "pwd").wantRefusal(w, http.StatusGone, "shut down")
		if _, err := w.tryCreate(live.Session{Spec: live.SessionSpec{Pool: "web"}}); err == nil || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("another one is created: %v", err)
		}
		(<-running).wantOutcome(w, live.OutcomeCompleted)
		if took := <-waited; took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestImpatienceEndsWhatRunsInSessions(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fake.OnExec(shells)
		w.web()
		running := w.runLater(w.Context(), w.create().Name, "sleep 3000")
		ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
		defer cancel()
		if err := w.registry.Wait(ctx); err == nil {
			t.Error("it was patient")
		}
		got := <-running
		got.wantOutcome(w, live.OutcomeUnknown)
		if got.exec.Status.Reason != "ShuttingDown" {
			t.Errorf("it ended with %+v", got.exec.Status)
		}
	})
}

func TestARepeatedCommandRunsOnceInItsSession(t *testing.T) {
	inSessions(t, func(w *world) {
		name, other := w.create().Name, w.create().Name
		object := live.Exec{Spec: live.ExecSpec{Shell: "pwd", RequestID: "one"}}
		for range 3 {
			w.runExec(w.Context(), name, object).wantOutcome(w, live.OutcomeCompleted)
		}
		w.runExec(w.Context(), other, object).wantOutcome(w, live.OutcomeCompleted)
		if n, m := w.session(name).Status.CommandCount, w.session(other).Status.CommandCount; n != 1 || m != 1 {
			t.Errorf("it ran %d times, and %d times in the other session", n, m)
		}
		object.Spec.Shell = "false"
		w.runExec(w.Context(), name, object).wantRefusal(w, http.StatusConflict, "requestID")
	})
}

func TestATimeoutEndsTheSessionWithItsCommand(t *testing.T) {
	inSessions(t, func(w *world) {
		name := w.create().Name
		got := w.runExec(w.Context(), name, live.Exec{Spec: live.ExecSpec{Shell: "sleep 60", TimeoutSeconds: 2}})
		got.wantOutcome(w, live.OutcomeUnknown)
		if got.exec.Status.Reason != "Timeout" || !strings.Contains(got.exec.Status.Message, "timeoutSeconds") ||
			!strings.Contains(got.exec.Status.Message, "create another") {
			t.Errorf("it ended with %+v", got.exec.Status)
		}
		if state := w.session(name).Status.State; state != live.SessionEnded {
			t.Errorf("the session is %s", state)
		}
	})
}

func TestASessionIsOneUse(t *testing.T) {
	inSessions(t, func(w *world) {
		first := w.create().Name
		second := w.create().Name
		_, err := w.tryCreate(live.Session{Spec: live.SessionSpec{Pool: "web"}})
		if !apierrors.IsTooManyRequests(err) {
			t.Errorf("a third one: %v", err)
		}
		w.post(w.Context(), "web", command("true")).wantRefusal(w, http.StatusTooManyRequests, "2")
		for _, name := range []string{first, second} {
			w.run(w.Context(), name, "pwd").wantOutcome(w, live.OutcomeCompleted)
		}
		_ = w.drop(first)
		synctest.Wait()
		w.create()
	}, func(c *Config) { c.Limits.StreamsPerUser = 2 })
}

func TestCommandsThatNoSessionTakes(t *testing.T) {
	inSessions(t, func(w *world) {
		name := w.create().Name
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
			w.runExec(w.Context(), name, object).wantRefusal(w, http.StatusBadRequest, field)
		}
		for field, query := range map[string]string{
			"target": "target=web-1", "container": "container=c", "pod": "pod=p", "namespace": "namespace=n", "env": "env=A%3Db",
			"stdin": "stdin=1", "tty": "tty=1", "term": "term=xterm", "subsystem": "subsystem=sftp",
		} {
			req := w.request("/sessions/" + name + "/exec?command=true&stdout=1&" + query)
			upgrading(req)
			w.send(req).wantRefusal(w, http.StatusBadRequest, field)
		}
		if n := w.session(name).Status.CommandCount; n != 0 {
			t.Errorf("%d ran", n)
		}
		w.send(w.request("/sessions/"+name+"/exec?command=true")).wantRefusal(w, http.StatusBadRequest, "POST")
	})
}

// list returns the names of sessions that a field selector chooses.
func (w *world) list(selector string) (names []string) {
	w.Helper()
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		w.Fatal(err)
	}
	list, err := w.sessions().List(asUser(w.Context(), "bob"), &metainternalversion.ListOptions{FieldSelector: parsed})
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range list.(*live.SessionList).Items {
		names = append(names, s.Name)
	}
	return names
}

func TestListsOfSessions(t *testing.T) {
	inSessions(t, func(w *world) {
		w.connect(w.target("db-1", "db"), w.pool("db", leastLoaded))
		w.create(named("b"))
		w.create(named("a"))
		w.create(named("c"), func(s *live.Session) { s.Spec.Pool = "db" })
		w.run(w.Context(), "b", "exit 0")
		synctest.Wait()
		for selector, want := range map[string]string{
			"": "[a b c]", "pool=web": "[a b]", "target=db-1": "[c]", "metadata.name=a": "[a]", "pool!=web": "[c]", "state=Ended": "[b]",
		} {
			if got := fmt.Sprint(w.list(selector)); got != want {
				t.Errorf("%s selects %s, want %s", selector, got, want)
			}
		}
		if _, err := w.sessions().List(asUser(w.Context(), "bob"), &metainternalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("owner", "a")}); !apierrors.IsBadRequest(err) {
			t.Errorf("an unknown field: %v", err)
		}
		w.tableSays("b", "b web web-1 Exited alice 1 0s <none> 0s")
		w.tableSays("a", "a web web-1 Ready alice 0 <none> in 60m 0s")
	})
}

// tableSays compares the narrow row of a session.
func (w *world) tableSays(name, want string) {
	w.Helper()
	table, err := w.sessions().ConvertToTable(w.Context(), runtime.Object(w.session(name)), nil)
	if err != nil {
		w.Fatal(err)
	}
	var cells []string
	for i, cell := range table.Rows[0].Cells {
		if table.ColumnDefinitions[i].Priority == 0 {
			cells = append(cells, fmt.Sprint(cell))
		}
	}
	if got := strings.Join(cells, " "); got != want {
		w.Errorf("the row is %q, want %q", got, want)
	}
}

// request is one by GET.
func (w *world) request(path string) *http.Request {
	return httptest.NewRequestWithContext(w.Context(), http.MethodGet, path, http.NoBody)
}
