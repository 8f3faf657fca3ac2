package registry

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

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/session/sessiontest"
)

// shells plays shells that know cd, pwd, echo, sleep and exit.
func shells(ctx context.Context, conn *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
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

// inSessions runs a test in virtual time, with pool web, whose targets have shells.
func inSessions(t *testing.T, test func(*world), changes ...func(*Config)) {
	t.Helper()
	inWorld(t, func(w *world) {
		w.fake.OnExec(shells)
		w.web()
		defer func() {
			if err := w.registry.Wait(context.Background()); err != nil {
				w.Error(err)
			}
		}()
		test(w)
	}, changes...)
}

func (w *world) sessions() *sessions { return w.registry.Storage()["sessions"].(*sessions) }

func asUser(ctx context.Context, name string) context.Context {
	return request.WithUser(request.WithNamespace(ctx, namespace), &user.DefaultInfo{Name: name})
}

// tryCreate asks for a session as alice.
func (w *world) tryCreate(wanted live.Session) (*live.Session, error) {
	created, err := w.sessions().Create(asUser(w.Context(), "alice"), &wanted, nil, nil)
	if err != nil {
		return nil, err
	}
	return created.(*live.Session), nil
}

// create makes a session of pool web.
func (w *world) create(changes ...func(*live.Session)) *live.Session {
	w.Helper()
	wanted := live.Session{Spec: live.SessionSpec{Pool: "web"}}
	for _, change := range changes {
		change(&wanted)
	}
	created, err := w.tryCreate(wanted)
	if err != nil {
		w.Fatal(err)
	}
	return created
}

func named(name string) func(*live.Session) { return func(s *live.Session) { s.Name = name } }

// session is what the API says of a session now.
func (w *world) session(name string) *live.Session {
	w.Helper()
	got, err := w.sessions().Get(asUser(w.Context(), "bob"), name, nil)
	if err != nil {
		w.Fatal(err)
	}
	return got.(*live.Session)
}

func (w *world) drop(name string) error {
	_, _, err := w.sessions().Delete(asUser(w.Context(), "admin"), name, nil, nil)
	return err
}

// run posts a command line to a session.
func (w *world) run(ctx context.Context, session, line string, changes ...func(*http.Request)) reply {
	w.Helper()
	return w.runExec(ctx, session, live.Exec{Spec: live.ExecSpec{Shell: line}}, changes...)
}

func (w *world) runExec(ctx context.Context, session string, object live.Exec, changes ...func(*http.Request)) reply {
	w.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		w.Fatal(err)
	}
	return w.postTo(ctx, "/sessions/"+session+"/exec", string(text), changes...)
}

func (w *world) runLater(ctx context.Context, session, line string) <-chan reply {
	answered := make(chan reply, 1)
	go func() { answered <- w.run(ctx, session, line) }()
	synctest.Wait()
	return answered
}

func (w *world) leases() (n int) {
	for _, c := range w.set.Connections("") {
		n += c.Leases
	}
	return n
}
