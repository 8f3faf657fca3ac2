package docker

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

// An engine does not end the streams of a command when its container dies in these
// ways. The caller learns it all the same, and soon.
func TestACommandWhoseContainerDiesInAnUnusualWayIsUnknownSoon(t *testing.T) {
	engine := sharedEngine(t)
	tests := map[string]struct {
		options  []string
		interval time.Duration
		strike   func(t *testing.T, name string)
	}{
		"removed, in the process namespace of the host": {[]string{"--pid=host"}, 200 * time.Millisecond, func(t *testing.T, name string) {
			t.Helper()
			mustDocker(t, engine, "rm", "--force", name)
		}},
		"restarted, in the process namespace of the host": {[]string{"--pid=host"}, 200 * time.Millisecond, func(t *testing.T, name string) {
			t.Helper()
			mustDocker(t, engine, "restart", "--time=0", name)
		}},
		"restarted before it was looked at": {[]string{"--pid=host"}, 4 * time.Second, func(t *testing.T, name string) {
			t.Helper()
			mustDocker(t, engine, "restart", "--time=0", name)
		}},
		"its shim is killed": {nil, 200 * time.Millisecond, func(t *testing.T, name string) {
			t.Helper()
			if err := engine.KillShim(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			container, err := engine.Container(t.Context(), tc.options...)
			if err != nil {
				t.Fatal(err)
			}
			conn := mustDial(t, Options{KillGrace: 500 * time.Millisecond, WatchInterval: tc.interval}, unixEndpoint(engine))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			running := make(chan struct{})
			go func() {
				<-running
				tc.strike(t, container)
			}()
			_, err = conn.Exec(ctx, driver.Command{Place: driver.Place{Container: container}, Shell: "echo runs; exec sleep 45"},
				driver.Streams{Stdout: &signaled{then: func() { close(running) }}})
			if ctx.Err() != nil {
				t.Fatalf("the caller waited for %s: %v", patience, err)
			}
			wantOutcome(t, err, driver.Unknown)
			wantError(t, err, driver.NotFound, driver.StageRun)
		})
	}
}

// The exit code of a command whose container has ended is never known if the engine
// takes the command for one that runs.
func TestACommandThatNeverEndsInADeadContainerIsUnknown(t *testing.T) {
	conn := mustDial(t, Options{KillGrace: time.Millisecond, WatchInterval: 20 * time.Millisecond}, play(t, speaks(map[string]func(net.Conn){
		"/start": func(conn net.Conn) {
			_, _ = io.WriteString(conn, upgradedText)
			_ = conn.(*net.UnixConn).CloseWrite()
		},
		"/exec/abc/json":       says(jsonText(`{"ID":"abc","Running":true,"Pid":7,"ContainerID":"c"}`)),
		"/containers/web/json": says(jsonText(`{"Id":"c","State":{"Running":false,"StartedAt":"x"}}`)),
	})))
	_, err := conn.Exec(t.Context(), driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}, driver.Streams{})
	wantOutcome(t, err, driver.Unknown)
	wantError(t, err, driver.NotFound, driver.StageRun)
}

func TestAContainerIsLookedAtOnceForAllOfItsCommands(t *testing.T) {
	const commands, looks = 20, 5
	var containers, execs atomic.Int64
	enough := make(chan struct{})
	count := func(path, _ string) {
		switch {
		case strings.HasSuffix(path, "/exec/abc/json"):
			execs.Add(1)
		case strings.HasSuffix(path, "/containers/web/json") && containers.Add(1) == looks:
			close(enough)
		}
	}
	conn := mustDial(t, Options{KillGrace: time.Millisecond, WatchInterval: 300 * time.Millisecond}, play(t, speaks(map[string]func(net.Conn){
		"/start":               func(conn net.Conn) { _, _ = io.WriteString(conn, upgradedText) },
		"/exec/abc/json":       says(jsonText(`{"ID":"abc","Running":true,"Pid":7,"ContainerID":"c"}`)),
		"/containers/web/json": says(jsonText(`{"Id":"c","State":{"Running":true,"StartedAt":"x"}}`)),
	}, count)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	for range commands {
		running.Go(func() {
			_, err := conn.Exec(ctx, driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}, driver.Streams{})
			wantOutcome(t, err, driver.Unknown)
		})
	}
	<-enough
	if got := execs.Load(); got > commands {
		t.Errorf("the engine was asked %d times for %d commands, want once for each at most", got, commands)
	}
	cancel()
}

func mustDocker(t *testing.T, engine *dockerd.Engine, arguments ...string) string {
	t.Helper()
	out, err := engine.Docker(context.Background(), arguments...)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(out)
}
