package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/session/sessiontest"
)

// playShell plays shells that know cd, pwd, echo, sleep and exit.
func playShell(ctx context.Context, conn *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(conn.Context(), cancel)()
	directory := "/"
	status, err := sessiontest.Exec(ctx, streams, func(ctx context.Context, line string, stdout, stderr io.Writer) (int, bool) {
		verb, rest, _ := strings.Cut(strings.NewReplacer("'", "").Replace(line), " ")
		number, _ := strconv.Atoi(rest)
		switch verb {
		case "cd":
			directory = rest
		case "pwd":
			_, _ = fmt.Fprintln(stdout, directory)
		case "echo":
			_, _ = fmt.Fprintln(stderr, rest)
		case "yes":
			for ctx.Err() == nil {
				_, _ = io.WriteString(stdout, "y\n")
			}
		case "false":
			return 1, false
		case "sleep":
			select {
			case <-time.After(seconds(int32(number))):
			case <-ctx.Done():
			}
		case "exit":
			return number, true
		}
		return 0, false
	})
	if conn.Context().Err() != nil {
		return status, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "the connection was reset"}
	}
	return status, err
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture serves sessions, and commands in them and beside them.
type fixture struct {
	*registrytest.Fixture

	sessions *Sessions
}

func newFixture(tb testing.TB, changes ...func(*use.Config)) *fixture {
	tb.Helper()
	f := &fixture{Fixture: registrytest.New(tb, changes...)}
	f.sessions = New(f.Gate)
	commands := exec.NewCommands(f.Gate.Memory)
	f.Storage["sessions/exec"] = commands.Storage(f.sessions.AdmitCommand)
	f.Storage["connectionpools/exec"] = commands.Storage(exec.InPools(f.Gate))
	return f
}

// wait ends the sessions and waits for all uses, like the registry.
func (f *fixture) wait(ctx context.Context) error {
	f.sessions.EndWhenIdle()
	return f.Wait(ctx)
}

// inFixture runs a test in virtual time.
func inFixture(t *testing.T, test func(*fixture), changes ...func(*use.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, changes...)
		defer f.Close()
		test(f)
	})
}

// inSessions runs a test in virtual time, with pool web, whose targets have shells.
func inSessions(t *testing.T, test func(*fixture), changes ...func(*use.Config)) {
	t.Helper()
	inFixture(t, func(f *fixture) {
		f.Fake.OnExec(playShell)
		f.Web()
		defer func() {
			if err := f.wait(context.Background()); err != nil {
				f.Error(err)
			}
		}()
		test(f)
	}, changes...)
}

func asUser(ctx context.Context, name string) context.Context {
	return request.WithUser(request.WithNamespace(ctx, registrytest.Namespace), &user.DefaultInfo{Name: name})
}

// tryCreate asks for a session as alice.
func (f *fixture) tryCreate(wanted live.Session) (*live.Session, error) {
	created, err := f.sessions.Create(asUser(f.Context(), "alice"), &wanted, nil, nil)
	if err != nil {
		return nil, err
	}
	return created.(*live.Session), nil
}

// create makes a session of pool web.
func (f *fixture) create(changes ...func(*live.Session)) *live.Session {
	f.Helper()
	wanted := live.Session{Spec: live.SessionSpec{Pool: "web"}}
	for _, change := range changes {
		change(&wanted)
	}
	created, err := f.tryCreate(wanted)
	if err != nil {
		f.Fatal(err)
	}
	return created
}

func named(name string) func(*live.Session) { return func(s *live.Session) { s.Name = name } }

// session returns a session as the API shows it now.
func (f *fixture) session(name string) *live.Session {
	f.Helper()
	got, err := f.sessions.Get(asUser(f.Context(), "bob"), name, nil)
	if err != nil {
		f.Fatal(err)
	}
	return got.(*live.Session)
}

func (f *fixture) drop(name string) error {
	_, _, err := f.sessions.Delete(asUser(f.Context(), "admin"), name, nil, nil)
	return err
}

// run posts a command line to a session.
func (f *fixture) run(ctx context.Context, session, line string, changes ...func(*http.Request)) registrytest.Reply {
	f.Helper()
	return f.runExec(ctx, session, live.Exec{Spec: live.ExecSpec{Shell: line}}, changes...)
}

func (f *fixture) runExec(ctx context.Context, session string, object live.Exec, changes ...func(*http.Request)) registrytest.Reply {
	f.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		f.Fatal(err)
	}
	return f.PostTo(ctx, "/sessions/"+session+"/exec", string(text), changes...)
}

func (f *fixture) runLater(ctx context.Context, session, line string) <-chan registrytest.Reply {
	answered := make(chan registrytest.Reply, 1)
	go func() { answered <- f.run(ctx, session, line) }()
	synctest.Wait()
	return answered
}
