package exec

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

func TestACommandComesBackWithItsResult(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			var in bytes.Buffer
			_, _ = in.ReadFrom(streams.Stdin)
			_, _ = streams.Stdout.Write([]byte(command.Env["GREETING"] + " " + in.String()))
			_, _ = streams.Stderr.Write([]byte{0xff, 0xfe})
			return driver.ExitStatus{Code: 137, Signal: "KILL"}, nil
		})
		object := registrytest.Command("cat")
		object.Spec.Stdin, object.Spec.Env = []byte("world"), map[string]string{"GREETING": "hello"}
		got := f.Post(f.Context(), "web", object)
		got.WantOutcome(f, live.OutcomeCompleted)
		status := got.Exec.Status
		if status.Stdout != "hello world" || string(status.StderrBytes) != "\xff\xfe" || status.Stderr != "" || status.Truncated {
			t.Errorf("output is %+v", status)
		}
		if *status.ExitCode != 137 || status.Signal != "KILL" || status.Target != "web-1" || status.Acquired != live.AcquiredWarm || status.RequestID == "" {
			t.Errorf("result is %+v", status)
		}
		if !f.HasConnection(status.Connection) {
			t.Errorf("the connection %q of the result is not listed", status.Connection)
		}
		if got.Exec.Spec.Stdin != nil || got.Exec.Spec.Env != nil || got.Exec.Kind != "Exec" || got.Exec.Name != "web" {
			t.Errorf("the object came back as %+v", got.Exec)
		}
	})
}

func TestEveryEndOfACommandWithALeaseIsA200(t *testing.T) {
	for name, test := range map[string]struct {
		err  *driver.Error
		want live.Outcome
		code bool
	}{
		"it ends with a code":           {nil, live.OutcomeCompleted, true},
		"it is refused by the server":   {&driver.Error{Reason: driver.ProtocolError, Message: "refused"}, live.OutcomeNotStarted, false},
		"its connection dies meanwhile": {&driver.Error{Reason: driver.Unreachable, Started: true, Message: "reset"}, live.OutcomeUnknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
					if test.err == nil {
						return driver.ExitStatus{}, nil
					}
					return driver.ExitStatus{}, test.err
				})
				got := f.Post(f.Context(), "web", registrytest.Command("true"))
				got.WantOutcome(f, test.want)
				if (got.Exec.Status.ExitCode != nil) != test.code {
					t.Errorf("exit code is %v", got.Exec.Status.ExitCode)
				}
				if unknown := test.want == live.OutcomeUnknown; strings.Contains(got.Exec.Status.Message, got.Exec.Status.RequestID) != unknown {
					t.Errorf("message is %q", got.Exec.Status.Message)
				}
				if want := test.err; want != nil && got.Exec.Status.Reason != string(want.Reason) {
					t.Errorf("reason is %q", got.Exec.Status.Reason)
				}
			})
		})
	}
}

func TestOutputBeyondTheBoundIsReadAndDropped(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		const euro = "€" // of three bytes, so that the bound cuts one in two
		f.Fake.OnExec(registrytest.Saying(strings.Repeat(euro, live.MaxExecOutputBytes/2), "short", 0))
		got := f.Post(f.Context(), "web", registrytest.Command("yes"))
		got.WantOutcome(f, live.OutcomeCompleted)
		status := got.Exec.Status
		if !status.Truncated || len(status.Stdout) != live.MaxExecOutputBytes/3*3 || len(status.StdoutBytes) != 0 || status.Stderr != "short" {
			t.Errorf("truncated=%v, %d characters, %d bytes", status.Truncated, len(status.Stdout), len(status.StdoutBytes))
		}
	})
}

func TestACommandEndsWithItsRequest(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(registrytest.Lasting(nil))
		ctx, cancel := context.WithCancel(f.Context())
		running := f.Later(ctx, "web", registrytest.Command("sleep", "infinity"))
		synctest.Wait()
		cancel()
		<-running
		if !f.Idle() {
			t.Error("a use is left")
		}
	})
}

func TestACommandEndsAfterItsTimeout(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(registrytest.Lasting(nil))
		object := registrytest.Command("sleep", "infinity")
		object.Spec.TimeoutSeconds = 7
		began := time.Now()
		got := f.Post(f.Context(), "web", object)
		got.WantOutcome(f, live.OutcomeUnknown)
		if lasted := time.Since(began); lasted != 7*time.Second {
			t.Errorf("it lasted %v", lasted)
		}
		if status := got.Exec.Status; status.Reason != "Timeout" || !strings.Contains(status.Message, "timeoutSeconds") {
			t.Errorf("reason %q, message %q", status.Reason, status.Message)
		}
	})
}

func TestABodyThatIsNoExecIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		body, contentType string
		code              int
		words             string
	}{
		"no JSON":                 {"nonsense", "", 400, "not a valid Exec"},
		"an unknown field":        {`{"spec":{"comand":["true"]}}`, "", 400, "comand"},
		"a field of another case": {`{"spec":{"Command":["true"]}}`, "", 400, "Command"},
		"a field given twice":     {`{"spec":{"shell":"true","shell":"false"}}`, "", 400, "shell"},
		"two objects":             {`{"spec":{"shell":"true"}}{}`, "", 400, "not a valid Exec"},
		"another kind":            {`{"kind":"Drain","spec":{"shell":"true"}}`, "", 400, "kind"},
		"another version":         {`{"apiVersion":"v1","spec":{"shell":"true"}}`, "", 400, "apiVersion"},
		"another namespace":       {`{"metadata":{"namespace":"other"},"spec":{"shell":"true"}}`, "", 400, "metadata.namespace"},
		"another pool":            {`{"metadata":{"name":"other"},"spec":{"shell":"true"}}`, "", 400, "metadata.name"},
		"too long":                {`{"spec":{"shell":"` + strings.Repeat("x", maxExecBytes) + `"}}`, "", 413, "stream"},
		"bytes that are no UTF-8": {"{\"spec\":{\"shell\":\"touch \xff\"}}", "", 400, "Unicode"},
		"half a surrogate pair":   {`{"spec":{"command":["touch","\ud800"]}}`, "", 400, "Unicode"},
		"an unknown content type": {`{}`, "application/cbor", 415, "application/json"},
		"YAML":                    {"spec:\n  shell: a\n", "application/yaml; charset=utf-8", 415, "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				got := f.Post(f.Context(), "web", test.body, func(req *http.Request) { req.Header.Set("Content-Type", test.contentType) })
				got.WantRefusal(f, test.code, test.words)
				if f.Execs() != 0 {
					t.Error("something ran")
				}
			})
		})
	}
}

// A client that sends "Expect: 100-continue", as curl does, then sends nothing and reads the
// answer. One that is sending already may find the connection closed.
func TestABodyThatIsDeclaredTooLongIsNotRead(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		got := f.Post(f.Context(), "web", "{}", func(req *http.Request) {
			req.ContentLength = maxExecBytes + 1
			req.Body = io.NopCloser(iotest.ErrReader(errors.New("it was read")))
		})
		got.WantRefusal(f, 413, "stream")
	})
}

func TestAGetWithoutAnUpgradeSaysWhatToDo(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		got := f.Post(f.Context(), "web", "", func(req *http.Request) { req.Method = http.MethodGet })
		got.WantRefusal(f, http.StatusBadRequest, "POST", "upgrade")
	})
}
