package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

const sessionsPath = "/apis/live.connpool.dev/v1alpha1/namespaces/shop/sessions"

func TestSessionOptionsBecomeAnObjectOfTheAPI(t *testing.T) {
	var sent live.Session
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != sessionsPath {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		created := sent
		created.Name = "web-7"
		answer(rw, http.StatusCreated, created)
	})
	session, err := w.client(t).NewSession(t.Context(), "shop", "web", SessionOptions{
		Target: "ci", Container: "app", Pod: "web-0", Namespace: "prod", Env: map[string]string{"A": "b"},
		TTL: time.Hour, IdleTimeout: 1500 * time.Millisecond,
	})
	if err != nil || session.Name() != "web-7" {
		t.Fatalf("got %v, %v", session, err)
	}
	want := live.Session{
		TypeMeta:   metav1.TypeMeta{APIVersion: "live.connpool.dev/v1alpha1", Kind: "Session"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop"},
		Spec: live.SessionSpec{
			Pool: "web", Target: "ci", Container: "app", Pod: "web-0", Namespace: "prod", Env: map[string]string{"A": "b"},
			TTLSeconds: 3600, IdleTimeoutSeconds: 2,
		},
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}
}

func TestASessionThatIsRefusedDoesNotExist(t *testing.T) {
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		discard(r)
		answer(rw, http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden, "you may not"))
	})
	_, err := w.client(t).NewSession(t.Context(), "shop", "web", SessionOptions{})
	wantError(t, err, ErrNotStarted)
	if !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}

func TestASessionWhoseVariablesAreNoTextIsNotOpened(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) { t.Error("was asked") })
	_, err := w.client(t).NewSession(t.Context(), "shop", "web", SessionOptions{Env: map[string]string{"A": "\xff"}})
	if e := wantError(t, err, ErrNotStarted); !errors.Is(e, ErrNoText) {
		t.Errorf("got %v", err)
	}
}

func TestSessionsAreListedLookedAtAndDeleted(t *testing.T) {
	var asked []string
	ready := live.Session{ObjectMeta: metav1.ObjectMeta{Name: "s-1"}, Status: live.SessionStatus{State: live.SessionReady}}
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if strings.HasSuffix(r.URL.Path, "/s-1") {
			answer(rw, http.StatusOK, ready)
			return
		}
		answer(rw, http.StatusOK, live.SessionList{Items: []live.Session{ready}})
	})
	c := w.client(t)
	session := c.Session("shop", "s-1")
	list, err := c.Sessions(t.Context(), "shop")
	if err != nil || len(list.Items) != 1 {
		t.Errorf("listed %v, %v", list, err)
	}
	if _, err := c.Sessions(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if got, err := session.Get(t.Context()); err != nil || got.Status.State != live.SessionReady {
		t.Errorf("got %v, %v", got, err)
	}
	if err := session.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	want := []string{
		"GET " + sessionsPath, "GET /apis/live.connpool.dev/v1alpha1/sessions", "GET " + sessionsPath + "/s-1", "DELETE " + sessionsPath + "/s-1",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

func TestASessionsCommandsHaveTheOutcomesOfAnyOther(t *testing.T) {
	ended := failure(http.StatusConflict, metav1.StatusReasonConflict, "the session was idle for 10 minutes; create another",
		metav1.StatusCause{Type: live.CauseOutcome, Message: "NotStarted"}, metav1.StatusCause{Type: live.CauseReason, Message: "Idle"})
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != sessionsPath+"/s-1/exec" || r.Method != http.MethodPost {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		switch exec := readExec(r); exec.Spec.Shell {
		case "true":
			answer(rw, http.StatusOK, &live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(0)), Stdout: "x"}})
		case "exit 3":
			answer(rw, http.StatusOK, &live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(3))}})
		case "lost":
			answer(rw, http.StatusOK, &live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeUnknown, Reason: "Unreachable"}})
		default:
			answer(rw, http.StatusConflict, ended)
		}
	})
	session := w.client(t).Session("shop", "s-1")
	exec := func(line string) (Result, error) { return session.Exec(t.Context(), Command{Shell: line}) }
	if result, err := exec("true"); err != nil || string(result.Stdout) != "x" {
		t.Errorf("got %+v, %v", result, err)
	}
	_, err := exec("exit 3")
	if diff := cmp.Diff(&ExitError{Code: 3}, err); diff != "" {
		t.Error(diff)
	}
	_, err = exec("lost")
	wantError(t, err, ErrUnknown)
	_, err = exec("too late")
	if e := wantError(t, err, ErrNotStarted); e.Reason != "Idle" || !strings.Contains(e.Error(), "create another") {
		t.Errorf("got %v because of %q", e, e.Reason)
	}
}

func sayHello(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
	_, _ = io.WriteString(streams.Stdout, "hello")
	return ended()
}

func TestASessionStreamsOutput(t *testing.T) {
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != sessionsPath+"/s-1/exec" || has(r, "stdin") || has(r, "tty") {
			t.Error(r.URL)
		}
		stream.ServeExec(rw, r, stream.ExecOptions{Stdout: true, Stderr: true}, sayHello)
	})
	var stdout bytes.Buffer
	_, err := w.client(t).Session("shop", "s-1").Stream(t.Context(), Command{Argv: []string{"ls"}}, Streams{Stdout: &stdout, Stderr: io.Discard})
	if err != nil || stdout.String() != "hello" {
		t.Errorf("got %q, %v", &stdout, err)
	}
}

func TestWhatASessionCannotDoIsNotSent(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) {})
	c := w.client(t)
	tests := map[string]struct {
		session string
		command Command
		streams Streams
	}{
		"another place":         {"s-1", Command{Argv: []string{"ls"}, Target: "web-1"}, Streams{}},
		"input":                 {"s-1", Command{Argv: []string{"ls"}, Stdin: strings.NewReader("")}, Streams{}},
		"a subsystem":           {"s-1", Command{Subsystem: "sftp"}, Streams{}},
		"an environment":        {"s-1", Command{Argv: []string{"ls"}, Env: map[string]string{"A": "b"}}, Streams{}},
		"a terminal":            {"s-1", Command{}, Streams{Terminal: &Terminal{}}},
		"a name that is a path": {"../s", Command{Argv: []string{"ls"}}, Streams{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := c.Session("shop", test.session).Stream(t.Context(), test.command, test.streams)
			wantError(t, err, ErrNotStarted)
			if w.requests.Load() != 0 {
				t.Error("it was sent")
			}
		})
	}
}
