package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

// patience bounds how long a test waits for what must happen.
const patience = 30 * time.Second

// brief returns the endpoint with a keepalive that notices faults soon.
func brief(endpoint driver.Endpoint) driver.Endpoint {
	endpoint.KeepaliveInterval, endpoint.KeepaliveTimeout = 100*time.Millisecond, 500*time.Millisecond
	return endpoint
}

// wantDeath waits until the connection has died for the reason.
func wantDeath(t *testing.T, conn driver.Conn, reason driver.Reason, stage driver.Stage) {
	t.Helper()
	select {
	case <-conn.Context().Done():
		wantError(t, context.Cause(conn.Context()), reason, stage)
	case <-time.After(patience):
		t.Fatal("the connection did not end")
	}
}

func run(conn driver.Execer, place driver.Place, line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stdout bytes.Buffer
	_, err := conn.Exec(ctx, driver.Command{Place: place, Shell: line}, driver.Streams{Stdout: &stdout})
	return stdout.String(), err
}

func mustRun(t *testing.T, conn driver.Execer, place driver.Place) {
	t.Helper()
	if out, err := run(conn, place, "echo served"); out != "served\n" || err != nil {
		t.Errorf("output %q, error %v", out, err)
	}
}

func wantOutcome(t *testing.T, err error, want driver.Outcome) {
	t.Helper()
	if got := driver.OutcomeOf(err); got != want {
		t.Errorf("outcome %s (%v), want %s", got, err, want)
	}
}

// journal is a file to which each command appends its name.
type journal string

func newJournal(t *testing.T) journal { return journal(filepath.Join(t.TempDir(), "journal")) }

// line returns a command line that appends to the journal, says so, and then goes on.
func (j journal) line(id, then string) string {
	return fmt.Sprintf("echo %s >> %s; echo noted; %s", id, string(j), then)
}

func (j journal) count(id string) int {
	text, _ := os.ReadFile(string(j))
	return strings.Count(string(text), id+"\n")
}

// signaled is a writer that calls a function at the first Write.
type signaled struct{ then func() }

func (s *signaled) Write(p []byte) (int, error) {
	if s.then != nil {
		s.then()
		s.then = nil
	}
	return len(p), nil
}

func TestAnIdleConnectionNoticesThatItsEngineIsKilled(t *testing.T) {
	engine := dockerd.Start(t)
	for name, endpointOf := range transports {
		t.Run(name, func(t *testing.T) {
			if err := engine.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			conn := mustDial(t, Options{}, endpointOf(engine))
			begin := time.Now()
			engine.Kill()
			wantDeath(t, conn, driver.Unreachable, driver.StageRun)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("noticed after %s, want within a second", took)
			}
		})
	}
}

// However the engine fails in the middle of a command, the command has run once, and
// the caller is told that its outcome is not known.
func TestAnEngineThatFailsInMidCommandLeavesItUnknownAndRunOnce(t *testing.T) {
	engine := dockerd.Start(t)
	place := startContainer(t, engine)
	faults := map[string]struct {
		strike func()
		reason driver.Reason
	}{
		"frozen":    {engine.Freeze, driver.Timeout},
		"killed":    {engine.Kill, driver.Unreachable},
		"restarted": {func() { engine.Kill(); _ = engine.Restart(context.Background()) }, driver.Unreachable},
	}
	for fault, tc := range faults {
		for transport, endpointOf := range transports {
			t.Run(fault+" over "+transport, func(t *testing.T) {
				engine.Thaw()
				if err := engine.Restart(context.Background()); err != nil {
					t.Fatal(err)
				}
				conn, journal, id := mustDial(t, Options{}, brief(endpointOf(engine))), newJournal(t), uuid.NewString()
				begin := time.Now()
				_, err := conn.Exec(t.Context(), driver.Command{Place: place, Shell: journal.line(id, "sleep 60")},
					driver.Streams{Stdout: &signaled{then: func() { begin = time.Now(); tc.strike() }}})
				wantOutcome(t, err, driver.Unknown)
				if got := driver.AsError(err); got.Reason != tc.reason && fault != "restarted" {
					t.Errorf("%s (%s), want %s", got.Reason, got.Message, tc.reason)
				}
				if took := time.Since(begin); took > 15*time.Second {
					t.Errorf("noticed after %s, want within 15 s", took)
				}
				if count := journal.count(id); count != 1 {
					t.Errorf("the command ran %d times", count)
				}
			})
		}
	}
	engine.Thaw()
}

// Many commands run while the engine is frozen, thawed, killed and restarted. What
// completed ran once, what did not start never ran, and the rest ran at most once.
func TestNoCommandRunsTwiceOrIsForgotten(t *testing.T) {
	engine := dockerd.Start(t)
	place := startContainer(t, engine)
	journal := newJournal(t)
	outcomes := map[string]driver.Outcome{}
	strikes := []func(){engine.Freeze, engine.Thaw, engine.Kill, func() {
		if err := engine.Restart(context.Background()); err != nil {
			t.Error(err)
		}
	}}
	var conn driver.Conn
	for i := range 40 {
		if conn == nil || conn.Context().Err() != nil {
			dialed, err := dialWith(t.Context(), Options{StageTimeout: time.Second}, brief(unixEndpoint(engine)))
			if err != nil {
				strikes[i/3%len(strikes)]()
				continue
			}
			conn = dialed
			t.Cleanup(func() { _ = dialed.Close() })
		}
		struck := make(chan struct{})
		go func() {
			defer close(struck)
			if i%3 == 2 {
				strikes[i/3%len(strikes)]()
			}
		}()
		id := uuid.NewString()
		_, err := run(conn.(driver.Execer), place, journal.line(id, "true"))
		outcomes[id] = driver.OutcomeOf(err)
		<-struck
	}
	engine.Thaw()
	if err := engine.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	tally := map[driver.Outcome]int{}
	for id, outcome := range outcomes {
		tally[outcome]++
		count := journal.count(id)
		wrong := outcome == driver.Completed && count != 1 || outcome == driver.NotStarted && count != 0 || count > 1
		if wrong {
			t.Errorf("a command that is %s ran %d times", outcome, count)
		}
	}
	t.Log(tally)
}

func TestACommandThatAFrozenEngineCannotPrepareHasNotStarted(t *testing.T) {
	engine := dockerd.Start(t)
	place := startContainer(t, engine)
	conn, journal := mustDial(t, Options{StageTimeout: 300 * time.Millisecond}, unixEndpoint(engine)), newJournal(t)
	engine.Freeze()
	_, err := run(conn, place, journal.line("id", "true"))
	wantOutcome(t, err, driver.NotStarted)
	wantError(t, err, driver.Timeout, driver.StageStart)
	engine.Thaw()
	mustRun(t, conn, place)
	if count := journal.count("id"); count != 0 {
		t.Errorf("the command ran %d times", count)
	}
}

func TestAnEngineThatIsFrozenWhileItIsDialedIsGivenUp(t *testing.T) {
	engine := dockerd.Start(t)
	engine.Freeze()
	defer engine.Thaw()
	for name, want := range map[string]driver.Stage{"unix": driver.StageSession, "TLS": driver.StageTLS} {
		_, err := dialWith(t.Context(), Options{StageTimeout: 200 * time.Millisecond}, transports[name](engine))
		wantError(t, err, driver.Timeout, want)
	}
}

func TestContainersThatCannotRunCommandsAreNotFound(t *testing.T) {
	engine := sharedEngine(t)
	running, stopped := startContainer(t, engine), startContainer(t, engine)
	paused := startContainer(t, engine)
	for verb, place := range map[string]driver.Place{"kill": stopped, "pause": paused} {
		if _, err := engine.Docker(t.Context(), verb, place.Container); err != nil {
			t.Fatal(err)
		}
	}
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	tests := map[string]struct {
		place  driver.Place
		reason driver.Reason
		words  string
	}{
		"missing":             {driver.Place{Container: "no-such"}, driver.NotFound, "there is no container no-such on this engine; running: "},
		"stopped":             {stopped, driver.NotFound, "does not run"},
		"paused":              {paused, driver.NotFound, "with docker unpause"},
		"unnamed":             {driver.Place{}, driver.ProtocolError, "name one"},
		"a pod":               {driver.Place{Container: running.Container, Pod: "web"}, driver.ProtocolError, "no pods"},
		"a path to somewhere": {driver.Place{Container: "../../images"}, driver.ProtocolError, "not a valid name or ID"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := run(conn, tc.place, "true")
			got := wantError(t, err, tc.reason, driver.StageStart)
			if got.Started || !strings.Contains(got.Message, tc.words) {
				t.Errorf("started %t, message %q, want it to say %q", got.Started, got.Message, tc.words)
			}
		})
	}
	mustRun(t, conn, running)
	if _, err := engine.Docker(t.Context(), "unpause", paused.Container); err != nil {
		t.Error(err)
	}
}

func TestAContainerIsNamedAsInDocker(t *testing.T) {
	engine := sharedEngine(t)
	name := startContainer(t, engine).Container
	id := mustDocker(t, engine, "inspect", "--format={{.Id}}", name)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	for kind, given := range map[string]string{
		"name": name, "name as the engine writes it": "/" + name, "ID": id, "short ID": id[:12],
	} {
		if out, err := run(conn, driver.Place{Container: given}, "echo served"); out != "served\n" || err != nil {
			t.Errorf("by %s: output %q, error %v", kind, out, err)
		}
	}
}

// An engine starts commands one after the other. Those that wait do not hold up what says
// whether the connection lives.
func TestABurstOfStartsDoesNotHoldUpAProbe(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	var running sync.WaitGroup
	for range 60 {
		running.Go(func() { mustRun(t, conn, place) })
	}
	ended := make(chan struct{})
	go func() {
		running.Wait()
		close(ended)
	}()
	for probes := 0; ; probes++ {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // that of a pool
		err := conn.Probe(ctx)
		cancel()
		if err != nil {
			t.Errorf("probe %d: %v", probes, err)
		}
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A command that was never started has not written anything, and pods answer the same.
func TestAProgramThatCannotBeStartedIsReportedAsAShellDoes(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	tests := map[string]struct {
		argv []string
		code int
	}{
		"missing":           {[]string{"no-such"}, 127},
		"missing at a path": {[]string{"/bin/no-such"}, 127},
		"a file of text":    {[]string{"/etc/passwd"}, 126},
		"a directory":       {[]string{"/etc"}, 126},
	}
	for name, tc := range tests {
		for _, tty := range []*driver.TTY{nil, {}} {
			t.Run(fmt.Sprintf("%s, terminal %t", name, tty != nil), func(t *testing.T) {
				var stdout, stderr bytes.Buffer
				status, err := conn.Exec(t.Context(), driver.Command{Place: place, Argv: tc.argv, TTY: tty},
					driver.Streams{Stdout: &stdout, Stderr: &stderr})
				said, silent := &stderr, &stdout
				if tty != nil {
					said, silent = &stdout, &stderr
				}
				if err != nil || status.Code != tc.code || !strings.Contains(said.String(), tc.argv[0]) || silent.Len() > 0 {
					t.Errorf("status %+v, error %v, output %q, errors %q", status, err, &stdout, &stderr)
				}
			})
		}
	}
	_, err := conn.Exec(t.Context(), driver.Command{Place: place, Subsystem: "sftp"}, driver.Streams{})
	wantOutcome(t, err, driver.NotStarted)
}

// What looks like a message of the runtime is the command's if the command has run.
func TestACommandMayQuoteTheRuntime(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	const quote = "OCI runtime exec failed: exec failed: unable to start container process: no such file or directory"
	for _, code := range []int{0, 126, 127} {
		var stdout bytes.Buffer
		status, err := conn.Exec(t.Context(), driver.Command{Place: place, Shell: fmt.Sprintf("echo %s; exit %d", quote, code)},
			driver.Streams{Stdout: &stdout})
		if err != nil || status.Code != code || stdout.String() != quote+"\n" {
			t.Errorf("status %+v, error %v, output %q", status, err, &stdout)
		}
	}
}

// The engine repeats a command when it is asked for its exit code.
func TestALongCommandHasAnExitCode(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	for _, letter := range []string{"x", "\x01", "ü", "<"} {
		command := driver.Command{Place: place, Argv: []string{"sh", "-c", "exit 5", strings.Repeat(letter, 60_000), strings.Repeat(letter, 60_000)}}
		if status, err := conn.Exec(t.Context(), command, driver.Streams{}); err != nil || status.Code != 5 {
			t.Errorf("%q: status %+v, error %v", letter, status, err)
		}
	}
}

func TestACommandOutlivesItsOutput(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	status, err := conn.Exec(t.Context(), driver.Command{
		Place: place, Shell: "exec >&- 2>&-; sleep 0.3; exit 7", Env: map[string]string{"A": "b c"},
	}, driver.Streams{})
	if err != nil || status.Code != 7 {
		t.Errorf("status %+v, error %v", status, err)
	}
}

func TestAContainerThatIsRemovedInMidCommandEndsIt(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	_, err := conn.Exec(t.Context(), driver.Command{Place: place, Shell: "echo here; sleep 60"},
		driver.Streams{Stdout: &signaled{then: func() { _, _ = engine.Docker(context.Background(), "rm", "--force", place.Container) }}})
	if err == nil {
		return // the engine told its exit code, 137, before it forgot the command
	}
	wantOutcome(t, err, driver.Unknown)
}

func TestWhatIgnoresTermIsKilledWithItsChildren(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{KillGrace: 300 * time.Millisecond}, unixEndpoint(engine))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := conn.Exec(ctx, driver.Command{Place: place, Shell: `trap "" TERM; echo ready; sh -c 'sleep 4242'; sleep 4243`},
		driver.Streams{Stdout: &signaled{then: cancel}})
	wantOutcome(t, err, driver.Unknown)
	if out, err := run(conn, place, "ps -o args | grep 'sleep 424[23]'; true"); out != "" || err != nil {
		t.Errorf("still running: %q, error %v", out, err)
	}
}

func TestUnreadOutputHoldsUpOnlyItsOwnCommand(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	const size = 64 << 20
	stuck := &stuckWriter{reached: make(chan struct{}), release: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), driver.Command{Place: place, Shell: fmt.Sprintf("head -c %d /dev/zero", size)},
			driver.Streams{Stdout: stuck})
		ended <- err
	}()
	<-stuck.reached
	for range 5 {
		mustRun(t, conn, place)
	}
	close(stuck.release)
	if err := <-ended; err != nil || stuck.bytes != size {
		t.Errorf("%d bytes of %d arrived, error %v", stuck.bytes, size, err)
	}
}

// stuckWriter blocks its first write until it is released.
type stuckWriter struct {
	seen             bool
	reached, release chan struct{}
	bytes            int
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	if !s.seen {
		s.seen = true
		close(s.reached)
	}
	<-s.release
	s.bytes += len(p)
	return len(p), nil
}

func TestALoginShellReadsItsInput(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	conn := mustDial(t, Options{}, tcpEndpoint(engine))
	var stdout bytes.Buffer
	status, err := conn.Exec(t.Context(), driver.Command{Place: place}, driver.Streams{
		Stdin: io.MultiReader(strings.NewReader("cd /etc; pwd\n"), strings.NewReader("exit 3\n")), Stdout: &stdout,
	})
	if err != nil || status.Code != 3 || stdout.String() != "/etc\n" {
		t.Errorf("status %+v, error %v, output %q", status, err, &stdout)
	}
}
