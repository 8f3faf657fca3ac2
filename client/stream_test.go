package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// streamFixture runs a command behind the real server side of streams.
func streamFixture(t testing.TB, run stream.RunFunc) *fixture {
	t.Helper()
	return newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connpool-Target", "web-1")
		rw.Header().Set("Connpool-Request-Id", "r-1")
		stream.ServeExec(rw, r, stream.ExecOptions{
			Stdin: has(r, "stdin"), Stdout: has(r, "stdout"), Stderr: has(r, "stderr"), TTY: has(r, "tty"),
		}, run)
	})
}

func has(r *http.Request, name string) bool { return r.URL.Query().Get(name) == "true" }

func ended(causes ...metav1.StatusCause) *metav1.Status {
	status := failure(0, "NonZeroExitCode", "ended", causes...)
	if len(causes) == 0 {
		status = &metav1.Status{Status: metav1.StatusSuccess}
	}
	return status
}

func echo(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
	if _, err := io.Copy(streams.Stdout, streams.Stdin); err != nil {
		return failure(500, "Unknown", err.Error())
	}
	return ended()
}

func TestStreamEchoesWhatItIsGiven(t *testing.T) {
	w := streamFixture(t, echo)
	data := bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)
	hash := sha256.New()
	_, err := w.pool(t).Stream(t.Context(), Command{Argv: []string{"cat"}, Stdin: bytes.NewReader(data)}, Streams{Stdout: hash})
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("something else came back")
	}
}

func TestStreamEndsStdinAndGoesOn(t *testing.T) {
	w := streamFixture(t, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		in, err := io.ReadAll(streams.Stdin)
		_, _ = io.WriteString(streams.Stdout, strings.ToUpper(string(in)))
		_, _ = io.WriteString(streams.Stderr, "done")
		if err != nil {
			return failure(500, "Unknown", err.Error())
		}
		return ended()
	})
	var stdout, stderr bytes.Buffer
	_, err := w.pool(t).Stream(t.Context(), Command{Stdin: strings.NewReader("hello")}, Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil || stdout.String() != "HELLO" || stderr.String() != "done" {
		t.Errorf("stdout %q, stderr %q, error %v", &stdout, &stderr, err)
	}
}

func TestStreamOutcomes(t *testing.T) {
	cause := func(kind metav1.CauseType, message string) metav1.StatusCause {
		return metav1.StatusCause{Type: kind, Message: message}
	}
	lease := Result{ExitCode: -1, Target: "web-1", RequestID: "r-1"}
	tests := map[string]struct {
		status *metav1.Status
		want   Result
		err    error
	}{
		"success of any server": {ended(), Result{Target: "web-1", RequestID: "r-1"}, nil},
		"an exit code of any server": {
			ended(cause("ExitCode", "7")), Result{ExitCode: 7, Target: "web-1", RequestID: "r-1"}, &ExitError{Code: 7},
		},
		"a signal, and all about the lease": {
			ended(
				cause("ExitCode", "143"), cause(live.CauseOutcome, "Completed"), cause(live.CauseSignal, "TERM"), cause(live.CauseTarget, "web-2"),
				cause(live.CauseConnection, "c-9"), cause(live.CauseAcquired, "Dialed"), cause(live.CauseAcquireMicroseconds, "11"),
				cause(live.CauseDurationMicroseconds, "12"), cause(live.CauseRequestID, "r-2"),
			),
			Result{
				ExitCode: 143, Signal: "TERM", Target: "web-2", Connection: "c-9", Acquired: live.AcquiredDialed,
				Wait: 11 * time.Microsecond, Duration: 12 * time.Microsecond, RequestID: "r-2",
			},
			&ExitError{Code: 143, Signal: "TERM"},
		},
		"not started": {
			failure(0, "NotStarted", "full", cause(live.CauseOutcome, "NotStarted"), cause(live.CauseReason, "SessionLimit")),
			lease, &Error{Outcome: live.OutcomeNotStarted, Reason: "SessionLimit", Message: "full", RequestID: "r-1"},
		},
		"unknown": {
			failure(0, "Unknown", "lost", cause(live.CauseOutcome, "Unknown"), cause(live.CauseReason, "Unreachable")),
			lease, &Error{Outcome: live.OutcomeUnknown, Reason: "Unreachable", Message: "lost", RequestID: "r-1"},
		},
		"an internal error of any server is unknown": {
			failure(500, metav1.StatusReasonInternalError, "oops"), lease, &Error{Outcome: live.OutcomeUnknown, Message: "oops", RequestID: "r-1"},
		},
		"an exit code that is none is unknown": {
			ended(cause("ExitCode", "many")), lease, &Error{Outcome: live.OutcomeUnknown, Message: "ended", RequestID: "r-1"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := streamFixture(t, func(context.Context, driver.Streams, <-chan driver.WindowSize) *metav1.Status { return test.status })
			got, err := w.pool(t).Stream(t.Context(), Command{}, Streams{})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.err, err); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStreamAsksForWhatItUses(t *testing.T) {
	tests := map[string]struct {
		command Command
		streams Streams
		want    url.Values
	}{
		"nothing, but for a stream that there must be": {
			Command{Target: "web-1", Shell: "ls *"},
			Streams{},
			url.Values{"target": {"web-1"}, "shell": {"ls *"}, "stdout": {"true"}},
		},
		"all streams, and words in their order": {
			Command{Argv: []string{"a", "", "b&c"}, Env: map[string]string{"B": "2", "A": "1=1"}, Stdin: strings.NewReader("")},
			Streams{Stdout: io.Discard, Stderr: io.Discard},
			url.Values{"command": {"a", "", "b&c"}, "env": {"A=1=1", "B=2"}, "stdin": {"true"}, "stdout": {"true"}, "stderr": {"true"}},
		},
		"a terminal has no stderr": {
			Command{Subsystem: "s"},
			Streams{Stdout: io.Discard, Stderr: io.Discard, Terminal: &Terminal{Term: "vt100"}},
			url.Values{"subsystem": {"s"}, "stdout": {"true"}, "tty": {"true"}, "term": {"vt100"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got url.Values
			w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
				got = r.URL.Query()
				answer(rw, http.StatusForbidden, failure(403, metav1.StatusReasonForbidden, "no"))
			})
			_, err := w.pool(t).Stream(t.Context(), test.command, test.streams)
			wantError(t, err, ErrNotStarted)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStreamTellsTheTerminalsSizes(t *testing.T) {
	w := streamFixture(t, func(_ context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
		for _, want := range []driver.WindowSize{{Columns: 80, Rows: 24}, {Columns: 132, Rows: 43}} {
			if got := <-resize; got != want {
				return failure(500, "Unknown", "the wrong size")
			}
			_, _ = streams.Stdout.Write([]byte("seen"))
		}
		return ended()
	})
	resize := make(chan Size, 1)
	resizeOnce := sync.OnceFunc(func() {
		resize <- Size{Columns: 132, Rows: 43}
		close(resize)
	})
	stdout := writerFunc(func(p []byte) (int, error) {
		resizeOnce()
		return len(p), nil
	})
	terminal := &Terminal{Size: Size{Columns: 80, Rows: 24}, Resize: resize}
	if _, err := w.pool(t).Stream(t.Context(), Command{}, Streams{Stdout: stdout, Terminal: terminal}); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestStreamThatEndsEarly has a command that would not end by itself.
func TestStreamThatEndsEarly(t *testing.T) {
	errMine := errors.New("mine")
	tests := map[string]struct {
		command Command
		stdout  io.Writer
		// What ends the command when the first output comes: the context, or the input.
		cancel, fail bool
		want         error
	}{
		"by its caller":          {cancel: true, want: errMine},
		"by its timeout":         {command: Command{Timeout: 50 * time.Millisecond}, want: errTimeout},
		"by its output":          {stdout: writerFunc(func([]byte) (int, error) { return 0, errBroken }), want: errBroken},
		"by an input that fails": {fail: true, want: errBroken},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			gone := make(chan error, 1)
			w := streamFixture(t, func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				_, _ = streams.Stdout.Write([]byte("started"))
				<-ctx.Done()
				gone <- context.Cause(ctx)
				return failure(0, "Unknown", "signaled")
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			command, stdout := test.command, test.stdout
			begun := make(chan struct{})
			started := sync.OnceFunc(func() { close(begun) })
			if test.fail {
				command.Stdin = readerFunc(func([]byte) (int, error) {
					<-begun
					return 0, errBroken
				})
			}
			if stdout == nil {
				stdout = writerFunc(func(p []byte) (int, error) {
					if test.cancel {
						cancel(errMine)
					}
					started()
					return len(p), nil
				})
			}
			result, err := w.pool(t).Stream(ctx, command, Streams{Stdout: stdout})
			e := wantError(t, err, ErrUnknown)
			if !errors.Is(err, test.want) || e.RequestID != "r-1" || result.Target != "web-1" {
				t.Errorf("got %v, %+v", err, result)
			}
			w.handlers.Wait()
			select {
			case cause := <-gone:
				if !errors.Is(cause, stream.ErrClientGone) {
					t.Errorf("the server thinks: %v", cause)
				}
			default: // the connection ended before the command began
			}
		})
	}
}

func TestAStreamThatIsCutIsUnknown(t *testing.T) {
	w := streamFixture(t, func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		_, _ = streams.Stdout.Write([]byte("half"))
		<-ctx.Done()
		return ended()
	})
	var wire net.Conn
	config := w.config()
	config.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		wire, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return wire, err
	}
	cut := writerFunc(func(p []byte) (int, error) { return len(p), wire.Close() })
	result, err := newClient(t, config).Pool("shop", "web").Stream(t.Context(), Command{}, Streams{Stdout: cut})
	if e := wantError(t, err, ErrUnknown); e.RequestID != "r-1" || result.ExitCode != -1 {
		t.Errorf("got %v, %+v", err, result)
	}
}

func TestAnUpgradeThatIsCutIsUnknown(t *testing.T) {
	w := newFixture(t, true, func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			conn.Close()
		}
	})
	_, err := w.pool(t).Stream(t.Context(), Command{}, Streams{})
	wantError(t, err, ErrUnknown)
	if n := w.requests.Load(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func TestAStreamIsCanceledWhileItWaitsForALease(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := newFixture(t, true, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := w.pool(t).Stream(ctx, Command{}, Streams{})
	wantError(t, err, ErrUnknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAStreamTakesNoRequestID(t *testing.T) {
	_, err := newClient(t, configFor("https://127.0.0.1:1")).Pool("shop", "web").Stream(t.Context(), Command{RequestID: "r"}, Streams{})
	wantError(t, err, ErrNotStarted)
}

func TestAStreamSaysWhereItRuns(t *testing.T) {
	query, err := streamQuery(Command{Target: "prod", Container: "app", Pod: "web-0", Namespace: "web", Argv: []string{"ps"}}, Streams{})
	want := url.Values{
		"target": {"prod"}, "container": {"app"}, "pod": {"web-0"}, "namespace": {"web"}, "command": {"ps"}, "stdout": {"true"},
	}
	if diff := cmp.Diff(want, query); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestStreamSendsSignalsOnAndSaysWhatDeliversThem(t *testing.T) {
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connpool-Signals", "Helper")
		rw.Header().Set("Connpool-Routing", "LeastLoaded")
		stream.ServeExec(rw, r, stream.ExecOptions{Stdout: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			_, _ = io.WriteString(streams.Stdout, string(<-streams.Signals)+" "+string(<-streams.Signals))
			return ended()
		})
	})
	signals, opened, stdout := make(chan string, 3), make(chan Result, 1), &bytes.Buffer{}
	for _, signal := range []string{"INT", "RM -RF", "TERM"} { // what is not a signal is ignored
		signals <- signal
	}
	_, err := w.pool(t).Stream(t.Context(), Command{Argv: []string{"it"}},
		Streams{Stdout: stdout, Signals: signals, Opened: func(r Result) { opened <- r }})
	if r := <-opened; err != nil || stdout.String() != "INT TERM" || r.Signals != live.SignalsByHelper || r.Routing != "LeastLoaded" {
		t.Errorf("%q, %+v, %v", stdout, r, err)
	}
}
