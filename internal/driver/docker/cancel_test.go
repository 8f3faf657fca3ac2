package docker

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

// cancelRunning cancels a command once one of its processes has the name, and returns
// what the caller is told.
func cancelRunning(t *testing.T, conn *conn, place driver.Place, argv []string, name string, before func()) *driver.Error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		awaitProcess(t, conn, place, name)
		if before != nil {
			before()
		}
	}()
	_, err := conn.Exec(ctx, driver.Command{Place: place, Argv: argv}, driver.Streams{})
	wantOutcome(t, err, driver.Unknown)
	return driver.AsError(err)
}

func awaitProcess(t *testing.T, conn *conn, place driver.Place, name string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; {
		if processesNamed(t, conn, place, name) != "" {
			return
		}
	}
	t.Errorf("%s did not start", name)
}

func processesNamed(t *testing.T, conn *conn, place driver.Place, name string) string {
	t.Helper()
	out, err := run(conn, place, fmt.Sprintf("ps -o pid,args | grep ' [%c]%s$'; true", name[0], name[1:]))
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(out)
}

func TestWhatACommandHasStartedEndsWithIt(t *testing.T) {
	engine := sharedEngine(t)
	tests := map[string]struct {
		options []string
		argv    []string
	}{
		"in an empty environment":                             {nil, []string{"env", "-i", "sleep", "5101"}},
		"in an empty environment, below a shell":              {nil, []string{"sh", "-c", "env -i sleep 5101; true"}},
		"by another user":                                     {nil, []string{"su", "nobody", "-s", "/bin/sh", "-c", "sleep 5101"}},
		"by another user's login shell":                       {nil, []string{"su", "-", "nobody", "-c", "sleep 5101; true"}},
		"by another user, below a shell":                      {nil, []string{"sh", "-c", "su nobody -s /bin/sh -c 'sleep 5101'; true"}},
		"in a session of its own":                             {nil, []string{"sh", "-c", "setsid env -i sleep 5101; true"}},
		"beside a parent that has left":                       {nil, []string{"sh", "-c", "(env -i sleep 5101 &); sleep 5102"}},
		"that ignores TERM":                                   {nil, []string{"env", "-i", "/bin/sh", "-c", "trap '' TERM; sleep 5101; sleep 5101"}},
		"in the process namespace of the host":                {[]string{"--pid=host"}, []string{"env", "-i", "sleep", "5101"}},
		"under a strange name":                                {nil, []string{"sh", "-c", `printf 'a) S 1\n2 (' >/proc/$$/comm; env -i sleep 5101; true`}},
		"in an empty environment, by an unprivileged user":    {[]string{"--user=nobody"}, []string{"env", "-i", "sleep", "5101"}},
		"in an empty environment, in a container with --init": {[]string{"--init"}, []string{"env", "-i", "sleep", "5101"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			place := containerWith(t, engine, tc.options...)
			conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
			told := cancelRunning(t, conn, place, tc.argv, "sleep 5101", nil)
			if left := processesNamed(t, conn, place, "sleep 5101"); left != "" {
				t.Errorf("still runs: %s", left)
			}
			if !strings.Contains(told.Message, "has ended") {
				t.Errorf("the caller is told %q", told.Message)
			}
		})
	}
}

// What another caller runs in the same container looks the same, but goes on.
func TestWhatOthersRunInTheContainerIsLeftAlone(t *testing.T) {
	engine := sharedEngine(t)
	place := containerWith(t, engine)
	conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
	other := driver.Command{Place: place, Argv: []string{"sh", "-c", "exec sleep 5201"}}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := conn.Exec(ctx, other, driver.Streams{})
		ended <- err
	}()
	awaitProcess(t, conn, place, "sleep 5201")
	mustDocker(t, engine, "exec", "--detach", place.Container, "sleep", "5202")
	awaitProcess(t, conn, place, "sleep 5202")
	_ = cancelRunning(t, conn, place, []string{"sh", "-c", "sleep 5203; true"}, "sleep 5203", nil)
	told := cancelRunning(t, conn, place, []string{"env", "-i", "sleep", "5204"}, "sleep 5204", func() {
		mustDocker(t, engine, "exec", "--detach", place.Container, "sleep", "5205")
	})
	for name, want := range map[string]bool{
		"sleep 5201": true, "sleep 5202": true, "sleep 5203": false, "sleep 5205": true,
	} {
		if runs := processesNamed(t, conn, place, name) != ""; runs != want {
			t.Errorf("%s runs: %t, want %t", name, runs, want)
		}
	}
	if left := processesNamed(t, conn, place, "sleep 5204"); left != "" && !strings.Contains(told.Message, "did not confirm") {
		t.Errorf("%s still runs, and the caller is told %q", left, told.Message)
	}
	cancel()
	<-ended
}

func TestACallerIsToldThatACommandMayGoOn(t *testing.T) {
	engine := sharedEngine(t)
	t.Run("when there is no shell to signal it", func(t *testing.T) {
		place := containerWith(t, engine)
		conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
		told := cancelRunning(t, conn, place, []string{"sleep", "5301"}, "sleep 5301",
			func() { mustDocker(t, engine, "exec", place.Container, "rm", "/bin/sh") })
		if !strings.Contains(told.Message, "did not confirm") || !strings.Contains(told.Message, "no sh") {
			t.Errorf("the caller is told %q", told.Message)
		}
	})
	t.Run("when its container is paused", func(t *testing.T) {
		place := containerWith(t, engine)
		conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
		told := cancelRunning(t, conn, place, []string{"sleep", "5302"}, "sleep 5302",
			func() { mustDocker(t, engine, "pause", place.Container) })
		if !strings.Contains(told.Message, "is paused, and goes on when that is unpaused") {
			t.Errorf("the caller is told %q", told.Message)
		}
		mustDocker(t, engine, "unpause", place.Container)
	})
}

func containerWith(t *testing.T, engine *dockerd.Engine, options ...string) driver.Place {
	t.Helper()
	name, err := engine.Container(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustDocker(t, engine, "rm", "--force", name) })
	return driver.Place{Container: name}
}

// An engine may start a command only after its caller has left. So one that has not begun
// has not ended, and is killed in the end.
func TestACommandThatMayStillBeStartedIsKilledLater(t *testing.T) {
	killed := make(chan struct{})
	var once sync.Once
	conn := mustDial(t, Options{StageTimeout: time.Second, KillGrace: 10 * time.Millisecond}, play(t, speaks(map[string]func(net.Conn){
		"/exec/abc/start": hold,
		"/exec/abc/json":  says(jsonText(`{"ID":"abc","Running":false,"ExitCode":null,"Pid":0}`)),
		"/exec/helper/start": func(conn net.Conn) {
			_, _ = io.WriteString(conn, upgradedText+string(frame(1, "1 none S 0 1 10\n90 other S 0 90 5000\nself 90\n")))
			_ = conn.(*net.UnixConn).CloseWrite()
		},
		"/exec/helper/json": says(jsonText(`{"ID":"helper","ExitCode":0,"Pid":8}`)),
	}, func(path, body string) {
		if strings.HasSuffix(path, "/containers/web/exec") && strings.Contains(body, kill) {
			once.Do(func() { close(killed) })
		}
	})))
	_, err := conn.Exec(t.Context(), driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}, driver.Streams{})
	wantOutcome(t, err, driver.Unknown)
	select {
	case <-killed:
	case <-time.After(patience):
		t.Error("the command was not killed")
	}
}
