package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/exec"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

func TestExecSendsTheCommandAsGiven(t *testing.T) {
	var got *http.Request
	var sent *live.Exec
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		got, sent = r, readExec(r)
		answer(rw, http.StatusOK, &live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(0))}})
	})
	_, err := w.pool(t).Exec(t.Context(), Command{
		Target: "web-1", Container: "app", Pod: "web-0", Namespace: "prod", Argv: []string{"sh", "-c", "a b"}, Env: map[string]string{"A": "b"},
		Stdin: strings.NewReader("in\x00put"), Timeout: 1500 * time.Millisecond, RequestID: "r-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &live.Exec{
		TypeMeta: metav1.TypeMeta{APIVersion: "live.connpool.dev/v1alpha1", Kind: "Exec"},
		Spec: live.ExecSpec{
			Target: "web-1", Container: "app", Pod: "web-0", Namespace: "prod", Command: []string{"sh", "-c", "a b"}, Env: map[string]string{"A": "b"},
			Stdin: []byte("in\x00put"), TimeoutSeconds: 2, RequestID: "r-1",
		},
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}
	if want := "/apis/live.connpool.dev/v1alpha1/namespaces/shop/connectionpools/web/exec"; got.URL.Path != want || got.Method != http.MethodPost {
		t.Errorf("%s %s, want POST %s", got.Method, got.URL.Path, want)
	}
	if got := got.Header.Get("Authorization"); got != "Bearer token" {
		t.Errorf("Authorization is %q", got)
	}
}

func TestExecOutcomes(t *testing.T) {
	tests := map[string]struct {
		status live.ExecStatus
		want   Result
		err    error
	}{
		"a command that succeeds is no error": {
			live.ExecStatus{
				Outcome: live.OutcomeCompleted, ExitCode: new(int32(0)), Stdout: "out", StderrBytes: []byte{0xff}, Truncated: true,
				Target: "web-1", Connection: "c-1", Acquired: live.AcquiredQueued, AcquireMicroseconds: 5, DurationMicroseconds: 7, RequestID: "r",
			},
			Result{
				Stdout: []byte("out"), Stderr: []byte{0xff}, Truncated: true, Target: "web-1", Connection: "c-1",
				Acquired: live.AcquiredQueued, Wait: 5 * time.Microsecond, Duration: 7 * time.Microsecond, RequestID: "r",
			},
			nil,
		},
		"an exit code is an ExitError": {
			live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(3))},
			Result{ExitCode: 3},
			&ExitError{Code: 3},
		},
		"a signal is an ExitError": {
			live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(137)), Signal: "KILL"},
			Result{ExitCode: 137, Signal: "KILL"},
			&ExitError{Code: 137, Signal: "KILL"},
		},
		"what was refused before the start is so": {
			live.ExecStatus{Outcome: live.OutcomeNotStarted, Reason: "SessionLimit", Message: "full", RequestID: "r"},
			Result{ExitCode: -1, RequestID: "r"},
			&Error{Outcome: live.OutcomeNotStarted, Reason: "SessionLimit", Message: "full", RequestID: "r"},
		},
		"what was cut off is unknown, with what had come": {
			live.ExecStatus{Outcome: live.OutcomeUnknown, Reason: "Unreachable", Message: "lost", Stdout: "half"},
			Result{ExitCode: -1, Stdout: []byte("half")},
			&Error{Outcome: live.OutcomeUnknown, Reason: "Unreachable", Message: "lost"},
		},
		"completed without an exit code is unknown": {
			live.ExecStatus{Outcome: live.OutcomeCompleted}, Result{ExitCode: -1}, &Error{Outcome: live.OutcomeUnknown},
		},
		"no outcome at all is unknown": {
			live.ExecStatus{}, Result{ExitCode: -1}, &Error{Outcome: live.OutcomeUnknown},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
				discard(r)
				answer(rw, http.StatusOK, &live.Exec{Status: test.status})
			})
			got, err := w.pool(t).Exec(t.Context(), Command{Argv: []string{"true"}})
			empty := cmp.Transformer("empty", func(b []byte) string { return string(b) })
			if diff := cmp.Diff(test.want, got, empty); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.err, err); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnExitErrorIsAlsoThatOfKubernetes(t *testing.T) {
	var err error = &ExitError{Code: 130, Signal: "INT"}
	var exit exec.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 130 || exit.Exited() {
		t.Errorf("got %v", exit)
	}
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		code    int
		status  *metav1.Status
		text    string
		outcome error
		is      func(error) bool
		reason  string
	}{
		"403 did not start": {
			code: 403, status: failure(403, metav1.StatusReasonForbidden, "no"), outcome: ErrNotStarted, is: apierrors.IsForbidden, reason: "Forbidden",
		},
		"404 did not start": {
			code: 404, status: failure(404, metav1.StatusReasonNotFound, "no"), outcome: ErrNotStarted, is: apierrors.IsNotFound, reason: "NotFound",
		},
		"a full queue did not start, and keeps its own reason": {
			code: 429, status: failure(429, metav1.StatusReasonTooManyRequests, "full", metav1.StatusCause{Type: live.CauseReason, Message: "PoolExhausted"}),
			outcome: ErrNotStarted, is: apierrors.IsTooManyRequests, reason: "PoolExhausted",
		},
		"429 of a proxy did not start": {code: 429, text: "slow down", outcome: ErrNotStarted, is: apierrors.IsTooManyRequests},
		"503 of the API did not start": {
			code: 503, status: failure(503, metav1.StatusReasonServiceUnavailable, "not ready"), outcome: ErrNotStarted,
			is: apierrors.IsServiceUnavailable, reason: "ServiceUnavailable",
		},
		"503 from before the operator was reached did not start": {
			code: 503, text: "service unavailable\n", outcome: ErrNotStarted, is: apierrors.IsServiceUnavailable,
		},
		"503 because nothing listened did not start": {
			code: 503, text: "dial tcp 10.0.0.1:443: connect: connection refused", outcome: ErrNotStarted, is: apierrors.IsServiceUnavailable,
		},
		"503 because the way back broke is unknown": {code: 503, text: "unexpected EOF", outcome: ErrUnknown, is: apierrors.IsServiceUnavailable},
		"502 of a proxy is unknown":                 {code: 502, text: "<html>", outcome: ErrUnknown},
		"504 is unknown": {
			code: 504, status: failure(504, metav1.StatusReasonTimeout, "slow"), outcome: ErrUnknown, is: apierrors.IsTimeout, reason: "Timeout",
		},
		"500 is unknown": {
			code: 500, status: failure(500, metav1.StatusReasonInternalError, "oops"), outcome: ErrUnknown, is: apierrors.IsInternalError, reason: "InternalError",
		},
		"501 that says that it did not start is believed": {
			code: 501, status: failure(501, "NotImplemented", "no", metav1.StatusCause{Type: live.CauseOutcome, Message: "NotStarted"}),
			outcome: ErrNotStarted, reason: "NotImplemented",
		},
		"a redirect is not followed": {code: 307, text: "elsewhere", outcome: ErrNotStarted},
		"a long message survives":    {code: 503, status: failure(503, metav1.StatusReasonServiceUnavailable, strings.Repeat("long ", 400)), outcome: ErrNotStarted, is: apierrors.IsServiceUnavailable, reason: "ServiceUnavailable"},
	}
	calls := map[string]func(*Pool, context.Context) error{
		"exec": func(p *Pool, ctx context.Context) error {
			_, err := p.Exec(ctx, Command{Argv: []string{"true"}})
			return err
		},
		"stream": func(p *Pool, ctx context.Context) error {
			_, err := p.Stream(ctx, Command{Argv: []string{"true"}}, Streams{})
			return err
		},
		"forward": func(p *Pool, ctx context.Context) error {
			_, err := p.Forward(ctx, "web-1", "80")
			return err
		},
	}
	for name, test := range tests {
		for call, run := range calls {
			t.Run(call+": "+name, func(t *testing.T) {
				w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
					discard(r)
					rw.Header().Set("Retry-After", "0")
					rw.Header().Set("Location", "/elsewhere")
					if test.status != nil {
						answer(rw, test.code, test.status)
						return
					}
					http.Error(rw, test.text, test.code)
				})
				err := run(w.pool(t), t.Context())
				e := wantError(t, err, test.outcome)
				if e.Reason != test.reason {
					t.Errorf("reason %q, want %q", e.Reason, test.reason)
				}
				if test.is != nil && !test.is(err) {
					t.Errorf("%v is not what the API said", err)
				}
				if test.status != nil && !strings.HasPrefix(test.status.Message, strings.TrimSuffix(e.Message, "...")) {
					t.Errorf("message %q", e.Message)
				}
				if n := w.requests.Load(); n != 1 {
					t.Errorf("sent %d times", n)
				}
			})
		}
	}
}

func TestExecRefusesWhatItCannotSend(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) { t.Error("was asked") })
	tests := map[string]struct {
		pool    *Pool
		command Command
	}{
		"stdin over the bound":         {w.pool(t), Command{Stdin: strings.NewReader(strings.Repeat("x", live.MaxExecStdinBytes+1))}},
		"stdin that cannot be read":    {w.pool(t), Command{Stdin: io.MultiReader(strings.NewReader("x"), brokenReader{})}},
		"a word that is not UTF-8":     {w.pool(t), Command{Argv: []string{"touch", "\xff"}}},
		"a line that is not UTF-8":     {w.pool(t), Command{Shell: "touch \xff"}},
		"a variable that is not UTF-8": {w.pool(t), Command{Env: map[string]string{"A": "\xff"}}},
		"a name that changes the path": {w.client(t).Pool("shop", "../secrets"), Command{}},
		"no name":                      {w.client(t).Pool("", "web"), Command{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.pool.Exec(t.Context(), test.command)
			wantError(t, err, ErrNotStarted)
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

// TestExecOverABrokenLine breaks the connection before, within and after a request.
func TestExecOverABrokenLine(t *testing.T) {
	answerThenCut := func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	tests := map[string]struct {
		handler  http.HandlerFunc
		capacity int64
		// reused means that a first request succeeds over the connection.
		reused bool
		stdin  int
		want   error
	}{
		"a kept line that takes nothing more: not started": {capacity: 0, reused: true, want: ErrNotStarted},
		"a line that breaks within the body: not started":  {capacity: 64 << 10, stdin: 1 << 20, want: ErrNotStarted},
		"a line that breaks after the request: unknown":    {capacity: math.MaxInt64 / 2, handler: answerThenCut, want: ErrUnknown},
		"a kept line that breaks after it: unknown":        {capacity: math.MaxInt64 / 2, reused: true, handler: answerThenCut, want: ErrUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			w := newFixture(t, false, func(rw http.ResponseWriter, r *http.Request) {
				discard(r)
				if broken.Load() && test.handler != nil {
					test.handler(rw, r)
					return
				}
				answer(rw, http.StatusOK, &live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(0))}})
			})
			config := w.config()
			capacity := &atomic.Int64{}
			capacity.Store(math.MaxInt64 / 2)
			config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				return &line{Conn: conn, capacity: capacity}, err
			}
			pool := newClient(t, config).Pool("shop", "web")
			sent := int64(1)
			if test.reused {
				sent++
				if _, err := pool.Exec(t.Context(), Command{}); err != nil {
					t.Fatal(err)
				}
			}
			broken.Store(true)
			capacity.Store(test.capacity)
			_, err := pool.Exec(t.Context(), Command{Stdin: bytes.NewReader(make([]byte, test.stdin))})
			wantError(t, err, test.want)
			if n := w.requests.Load(); n > sent {
				t.Errorf("%d requests, want at most %d", n, sent)
			}
		})
	}
}

func TestExecWhereNothingListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	config := configFor("https://" + listener.Addr().String())
	_, err = newClient(t, config).Pool("shop", "web").Exec(t.Context(), Command{})
	wantError(t, err, ErrNotStarted)
	_, err = newClient(t, config).Pool("shop", "web").Stream(t.Context(), Command{}, Streams{})
	wantError(t, err, ErrNotStarted)
}

// tunnel is an HTTP proxy that opens no way, or one on which no server answers TLS.
func tunnel(t *testing.T, opens bool) func(*http.Request) (*url.URL, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !opens {
			http.Error(w, "no way", http.StatusBadGateway)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		_, _ = conn.Read(make([]byte, 1))
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return http.ProxyURL(address)
}

func TestWhatFailsBeforeTheRequestIsNotStarted(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) { t.Error("was asked") })
	dead := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	}
	tests := map[string]func(*rest.Config){
		"no route to the host":                       func(c *rest.Config) { c.Dial = dead },
		"a certificate of another authority":         func(c *rest.Config) { c.Insecure = false },
		"a proxy that opens no way":                  func(c *rest.Config) { c.Proxy = tunnel(t, false) },
		"a proxy to a server that ends the TLS":      func(c *rest.Config) { c.Proxy = tunnel(t, true) },
		"a proxy to which there is no route":         func(c *rest.Config) { c.Proxy, c.Dial = tunnel(t, true), dead },
		"a proxy that does not speak TLS as it must": func(c *rest.Config) { c.Proxy = secured(tunnel(t, true)) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			config := w.config()
			change(config)
			pool := newClient(t, config).Pool("shop", "web")
			_, err := pool.Exec(t.Context(), Command{})
			wantError(t, err, ErrNotStarted)
			_, err = pool.Stream(t.Context(), Command{}, Streams{})
			wantError(t, err, ErrNotStarted)
			err = pool.Run(t.Context(), Command{}, Targets{All: true}, func(r TargetResult) { t.Errorf("result %+v", r) })
			wantError(t, err, ErrNotStarted)
		})
	}
}

// secured returns the same proxy, to which the way is by TLS.
func secured(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		address, err := proxy(r)
		if err != nil {
			return nil, err
		}
		copied := *address
		copied.Scheme = "https"
		return &copied, nil
	}
}

func TestCancelingAnExecReachesTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := newFixture(t, true, func(_ http.ResponseWriter, r *http.Request) {
		discard(r)
		cancel()
		<-r.Context().Done()
	})
	_, err := w.pool(t).Exec(ctx, Command{})
	wantError(t, err, ErrUnknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestACanceledExecIsNotSent(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) { t.Error("was asked") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.pool(t).Exec(ctx, Command{})
	wantError(t, err, ErrNotStarted)
	_, err = w.pool(t).Stream(ctx, Command{}, Streams{})
	wantError(t, err, ErrNotStarted)
}

func TestExecsShareAConnection(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, http2, func(rw http.ResponseWriter, r *http.Request) {
				discard(r)
				answer(rw, http.StatusOK, &live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(0))}})
			})
			pool := w.pool(t)
			for range 1000 {
				if _, err := pool.Exec(t.Context(), Command{Argv: []string{"true"}}); err != nil {
					t.Fatal(err)
				}
			}
			if n := w.connections.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// Many may share the words and the environment of one command.
func TestTheAnswerChangesNothingOfTheCommand(t *testing.T) {
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		sent := readExec(r)
		sent.Spec.Command[0], sent.Spec.Env["A"] = "changed", "changed"
		sent.Status = live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(0))}
		answer(rw, http.StatusOK, sent)
	})
	command := Command{Argv: []string{"sh", "-c", "a"}, Env: map[string]string{"A": "b"}}
	if _, err := w.pool(t).Exec(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	if command.Argv[0] != "sh" || command.Env["A"] != "b" {
		t.Errorf("the caller's command is %+v after the answer", command)
	}
}
