package drivertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// patience bounds how long the suite waits for what must happen.
const patience = 30 * time.Second

// Harness is a driver with a remote that has a POSIX shell, and shares the loopback
// interface and the file system of this machine, or at least its /tmp.
type Harness struct {
	// Driver is the driver, and Endpoint the remote.
	Driver   driver.Driver
	Endpoint driver.Endpoint
	// KillConnections ends all connections from the remote's side.
	KillConnections func()
	// Signals is true if the remote passes signals on to commands.
	Signals bool
	// Terminals is true if the remote grants pseudo terminals.
	Terminals bool
	// Text is true if the protocol carries commands as text, and refuses what is not
	// UTF-8.
	Text bool
	// Place is where commands run: a container or a pod, or zero for a host.
	Place driver.Place
}

// Run tests whether a driver does what the driver package promises. It skips the
// capabilities that the driver's connections do not have.
//
// Commands of the suite that do not end by themselves write output again and again, so
// that they end when their connection is gone.
func Run(t *testing.T, start func(*testing.T) Harness) {
	t.Helper()
	s := suite{start(t)}
	t.Run("connection", s.connection)
	t.Run("trace", s.trace)
	if _, ok := s.dial(t).(driver.Execer); ok {
		t.Run("exec", s.exec)
		t.Run("exec tells its start", s.started)
		t.Run("exec is canceled", s.cancel)
		if s.Terminals {
			t.Run("terminal", s.terminal)
		}
	}
	if _, ok := s.dial(t).(driver.Forwarder); ok {
		t.Run("forward", s.forward)
	}
	if _, ok := s.dial(t).(driver.Listener); ok {
		t.Run("listen", s.listen)
	}
	if _, ok := s.dial(t).(inventory.Lister); ok {
		t.Run("list", s.list)
	}
	t.Run("a failure of the transport is told to each caller", s.failuresToDial)
	t.Run("death", s.death)
}

type suite struct{ Harness }

func (s suite) dialTo(ctx context.Context, endpoint driver.Endpoint) (driver.Conn, error) {
	dialer, err := s.Driver.Prepare(endpoint)
	if err != nil {
		return nil, err
	}
	return dialer.Dial(ctx)
}

// dialTraced dials with a trace.
func (s suite) dialTraced(ctx context.Context, trace driver.TraceFunc) (driver.Conn, error) {
	endpoint := s.Endpoint
	endpoint.Trace = trace
	return s.dialTo(ctx, endpoint)
}

func (s suite) dial(t *testing.T) driver.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := s.dialTo(ctx, s.Endpoint)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, errors.Unwrap(err))
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// result is what became of a command.
type result struct {
	Stdout, Stderr string
	Status         driver.ExitStatus
}

func (s suite) run(t *testing.T, conn driver.Conn, command driver.Command, stdin io.Reader) result {
	t.Helper()
	got, err := s.try(t.Context(), conn, command, stdin)
	if err != nil {
		t.Fatalf("exec: %v (%v)", err, errors.Unwrap(err))
	}
	return got
}

// start runs a command in the harness's place.
func (s suite) start(
	ctx context.Context, conn driver.Conn, command driver.Command, streams driver.Streams,
) (driver.ExitStatus, error) {
	command.Place = s.Place
	return conn.(driver.Execer).Exec(ctx, command, streams)
}

func (s suite) try(ctx context.Context, conn driver.Conn, command driver.Command, stdin io.Reader) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	status, err := s.start(ctx, conn, command, driver.Streams{Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	return result{stdout.String(), stderr.String(), status}, err
}

func (s suite) connection(t *testing.T) {
	conn := s.dial(t)
	if err := conn.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	info := conn.Info()
	if info.ServerVersion == "" || info.RemoteAddress == "" || info.Handshake <= 0 || info.RoundTrip <= 0 {
		t.Errorf("info is incomplete after a probe: %+v", info)
	}
	if conn.Context().Err() != nil {
		t.Errorf("a live connection's context is done: %v", context.Cause(conn.Context()))
	}
	_ = conn.Close()
	if err := conn.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	<-conn.Context().Done()
	if cause := context.Cause(conn.Context()); !errors.Is(cause, context.Canceled) {
		t.Errorf("the cause after close is %v, want %v", cause, context.Canceled)
	}
	wantClassified(t, conn.Probe(t.Context()))
}

func wantClassified(t *testing.T, err error) {
	t.Helper()
	var classified *driver.Error
	switch {
	case !errors.As(err, &classified):
		t.Errorf("error %v, want a *driver.Error", err)
	case classified.Reason == "" || classified.Stage == "" || classified.Message == "":
		t.Errorf("error without reason, stage or message: %+v", classified)
	}
}

// started checks that the start of a command is told once, while it runs, and that of a
// command which the server never got is not told.
func (s suite) started(t *testing.T) {
	conn := s.dial(t)
	stdin, input := io.Pipe()
	told := 0
	_, err := s.start(t.Context(), conn, driver.Command{Argv: []string{"cat"}}, driver.Streams{
		Stdin: stdin,
		Started: func() {
			told++
			_ = input.Close() // without which the command would not end
		},
	})
	if err != nil || told != 1 {
		t.Errorf("a start is told %d times, then %v", told, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.start(ended, conn, driver.Command{Argv: []string{"true"}}, driver.Streams{Started: func() { told++ }})
	if err == nil || told != 1 {
		t.Errorf("a command whose caller had left: error %v, starts %d", err, told-1)
	}
}

func (s suite) exec(t *testing.T) {
	conn := s.dial(t)
	tests := map[string]struct {
		command driver.Command
		stdin   string
		want    result
	}{
		"success is exit code 0":          {command: driver.Command{Argv: []string{"true"}}},
		"failure is exit code 1":          {command: driver.Command{Argv: []string{"false"}}, want: result{Status: driver.ExitStatus{Code: 1}}},
		"an exit code arrives as it is":   {command: driver.Command{Shell: "exit 42"}, want: result{Status: driver.ExitStatus{Code: 42}}},
		"an unknown command is code 127":  {command: driver.Command{Shell: "connpool-no-such-command 2>/dev/null"}, want: result{Status: driver.ExitStatus{Code: 127}}},
		"output and errors stay separate": {command: driver.Command{Shell: "echo out; echo err >&2"}, want: result{Stdout: "out\n", Stderr: "err\n"}},
		"a shell line is interpreted":     {command: driver.Command{Shell: "a=1; echo $((a + 1)) | cat"}, want: result{Stdout: "2\n"}},
		"input is passed on and ends":     {command: driver.Command{Argv: []string{"cat"}}, stdin: "some input", want: result{Stdout: "some input"}},
		"no input is an empty input":      {command: driver.Command{Argv: []string{"wc", "-c"}}, want: result{Stdout: "0\n"}},
		"input that is not read is no failure": {
			command: driver.Command{Argv: []string{"true"}}, stdin: strings.Repeat("x", 4<<20),
		},
		"output without a newline is whole": {command: driver.Command{Argv: []string{"printf", "%s", "no newline"}}, want: result{Stdout: "no newline"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var stdin io.Reader
			if tc.stdin != "" {
				stdin = strings.NewReader(tc.stdin)
			}
			if diff := cmp.Diff(tc.want, s.run(t, conn, tc.command, stdin)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a signal is reported by name and code", s.signaled)
	t.Run("arguments arrive as given", s.arguments)
	t.Run("large data goes through unchanged both ways", s.large)
	t.Run("commands run beside each other", s.concurrent)
}

func (s suite) signaled(t *testing.T) {
	got := s.run(t, s.dial(t), driver.Command{Shell: "kill -KILL $$"}, nil).Status
	want := driver.ExitStatus{Code: 137, Signal: "KILL"}
	if got != want && got != (driver.ExitStatus{Code: 137}) { // some protocols know codes only
		t.Errorf("status %+v, want %+v", got, want)
	}
}

// nasty arguments mean something to a shell, or once broke a program.
var nasty = []string{
	"", " ", "two words", "'", "''", `"`, `\`, `\'`, "$HOME", "`id`", "$(id)", "a;b", "a&b", "a|b", "a>b", "*", "?", "[a]",
	"~", "#", "!", "!!", "{a,b}", "a=b", "-n", "--", "tab\there", "line\nbreak", "trailing\n", "über", "\x01\x7f", "\xff\xfe", "%s", `\n`,
}

func (s suite) arguments(t *testing.T) {
	conn := s.dial(t)
	words, refused := nasty, []string{"a\x00b"}
	if s.Text {
		words = slices.DeleteFunc(slices.Clone(nasty), func(word string) bool { return !utf8.ValidString(word) })
		refused = append(refused, "\xff\xfe")
	}
	got := s.run(t, conn, driver.Command{Argv: append([]string{"printf", `%s\000`}, words...)}, nil)
	if diff := cmp.Diff(strings.Join(words, "\x00")+"\x00", got.Stdout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, word := range refused {
		_, err := s.try(t.Context(), conn, driver.Command{Argv: []string{"echo", word}}, nil)
		if outcome := driver.OutcomeOf(err); outcome != driver.NotStarted {
			t.Errorf("%q: outcome %s (%v), want %s", word, outcome, err, driver.NotStarted)
		}
	}
}

func (s suite) large(t *testing.T) {
	data := make([]byte, 16<<20)
	_, _ = rand.Read(data)
	got := s.run(t, s.dial(t), driver.Command{Argv: []string{"cat"}}, bytes.NewReader(data)).Stdout
	if len(got) != len(data) || sha256.Sum256([]byte(got)) != sha256.Sum256(data) {
		t.Errorf("%d bytes came back of %d, or changed", len(got), len(data))
	}
}

func (s suite) concurrent(t *testing.T) {
	conn := s.dial(t)
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			want := result{Stdout: fmt.Sprintln(i), Status: driver.ExitStatus{Code: i}}
			got, err := s.try(t.Context(), conn, driver.Command{Shell: fmt.Sprintf("cat; exit %d", i)}, strings.NewReader(want.Stdout))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
	running.Wait()
}

func wantOutcome(t *testing.T, err error, want driver.Outcome) {
	t.Helper()
	if got := driver.OutcomeOf(err); got != want {
		t.Errorf("outcome %s (%v), want %s", got, err, want)
	}
	if err != nil {
		wantClassified(t, err)
	}
}

func (s suite) terminal(t *testing.T) {
	conn := s.dial(t)
	t.Run("has the size asked for", func(t *testing.T) {
		// Some protocols can tell the size only when the command runs.
		line := `test -t 0 || exit; until test "$(stty size 2>/dev/null)" = "33 77"; do sleep 0.05; done; stty size`
		tty := &driver.TTY{Size: driver.WindowSize{Columns: 77, Rows: 33}}
		got := s.run(t, conn, driver.Command{Shell: line, TTY: tty}, nil)
		if got.Stdout != "33 77\r\n" {
			t.Errorf("%+v, want 33 rows and 77 columns", got)
		}
	})
	t.Run("changes its size", func(t *testing.T) {
		resize := make(chan driver.WindowSize, 1)
		stdout := &resizeWhenReady{resize: resize}
		status, err := s.start(t.Context(), conn, driver.Command{
			Shell: `trap 'stty size; exit 5' WINCH; while echo ready; do sleep 0.05; done`,
			TTY:   &driver.TTY{Resize: resize},
		}, driver.Streams{Stdout: stdout})
		if err != nil || status.Code != 5 || !strings.Contains(stdout.String(), "21 99") {
			t.Errorf("status %+v, error %v, output %q", status, err, stdout.String())
		}
	})
}

type resizeWhenReady struct {
	bytes.Buffer

	once   sync.Once
	resize chan<- driver.WindowSize
}

func (r *resizeWhenReady) Write(p []byte) (int, error) {
	r.once.Do(func() {
		r.resize <- driver.WindowSize{Columns: 99, Rows: 21}
		close(r.resize)
	})
	return r.Buffer.Write(p)
}

func (s suite) forward(t *testing.T) {
	conn := s.dial(t).(driver.Forwarder)
	for network, address := range map[string]string{
		"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "socket"),
	} {
		t.Run(network, func(t *testing.T) {
			listener, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			open := func() (net.Conn, error) { return conn.Forward(t.Context(), network, listener.Addr().String()) }
			checkStream(t, listener, open)
			_ = listener.Close()
			_, err = open()
			wantClassified(t, err)
		})
	}
}

func (s suite) listen(t *testing.T) {
	conn := s.dial(t).(driver.Listener)
	for network, address := range map[string]string{
		"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "socket"),
	} {
		t.Run(network, func(t *testing.T) {
			listener, err := conn.Listen(t.Context(), network, address)
			if err != nil {
				t.Fatalf("%v (%v)", err, errors.Unwrap(err))
			}
			checkStream(t, listener, func() (net.Conn, error) { return net.Dial(network, listener.Addr().String()) })
			if _, err := conn.Listen(t.Context(), network, listener.Addr().String()); err == nil {
				t.Error("listening twice on the same address succeeded")
			}
			_ = listener.Close()
			if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept after close: %v, want %v", err, net.ErrClosed)
			}
		})
	}
}

// checkStream sends bytes there and back, closes the writing side before it reads the
// answer, and then tests deadlines and Close.
func checkStream(t *testing.T, listener net.Listener, open func() (net.Conn, error)) {
	t.Helper()
	question := bytes.Repeat([]byte("there and back "), 200_000)
	go answer(listener)
	conn, err := open()
	if err != nil {
		t.Fatalf("open: %v (%v)", err, errors.Unwrap(err))
	}
	go func() {
		_, _ = conn.Write(question)
		_ = driver.CloseWrite(conn)
	}()
	if got, err := io.ReadAll(conn); !bytes.Equal(got, question) {
		t.Errorf("%d bytes of %d came back, error %v", len(got), len(question), err)
	}
	_ = conn.Close()

	go answer(listener)
	if conn, err = open(); err != nil {
		t.Fatalf("open again: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read after the deadline: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	_ = conn.SetReadDeadline(time.Time{})
	_, _ = conn.Write([]byte("x"))
	if n, err := conn.Read(make([]byte, 1)); n != 1 {
		t.Errorf("read without the deadline: %v", err)
	}
	_ = conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v, want %v", err, net.ErrClosed)
	}
}

func answer(listener net.Listener) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	_, _ = io.Copy(conn, conn)
	_ = conn.Close()
}

func (s suite) death(t *testing.T) {
	conn := s.dial(t)
	told := probeUntilTheEnd(t, conn)
	if _, ok := conn.(driver.Execer); ok {
		s.deathOfACommand(t, conn)
	} else {
		s.KillConnections()
	}
	wantDeath(t, conn)
	wantOwn(t, context.Cause(conn.Context()), slices.Concat(told(), s.useAll(t, conn), s.useAll(t, conn)))
}

func (s suite) deathOfACommand(t *testing.T, conn driver.Conn) {
	t.Helper()
	stdout := newUntilReady()
	go func() {
		<-stdout.ready
		s.KillConnections()
	}()
	_, err := s.start(t.Context(), conn, driver.Command{Shell: "while echo running; do sleep 0.05; done"},
		driver.Streams{Stdout: stdout})
	wantOutcome(t, err, driver.Unknown)
}

func wantDeath(t *testing.T, conn driver.Conn) {
	t.Helper()
	select {
	case <-conn.Context().Done():
		wantClassified(t, context.Cause(conn.Context()))
	case <-time.After(patience):
		t.Error("the connection is not dead")
	}
	wantClassified(t, conn.Probe(t.Context()))
}
