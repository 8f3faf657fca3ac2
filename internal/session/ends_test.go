package session_test

import (
	"context"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/session"
)

// awaitFile returns when a file exists.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not appear", path)
		}
		<-time.After(time.Millisecond)
	}
}

var dash = []string{"dash"}

func TestACallerWhoLeavesEndsTheSession(t *testing.T) {
	here := local{shell: dash, dir: t.TempDir()}
	shell := start(t, here, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		awaitFile(t, here.dir+"/started")
		cancel()
	}()
	_, err := shell.Run(ctx, driver.Command{Shell: ": >started; sleep 60"}, nil, nil)
	wantOutcome(t, err, driver.Unknown, driver.Timeout)
	<-shell.Done()
	_, err = shell.Run(t.Context(), driver.Command{Shell: "true"}, nil, nil)
	wantOutcome(t, err, driver.NotStarted, driver.Timeout)
	if shell.Failure() == nil {
		t.Error("an Exec that was canceled has not failed")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAWriterThatFailsEndsTheSession(t *testing.T) {
	for name, line := range map[string]string{"at the end": "echo a", "in the middle": "echo a; sleep 60"} {
		t.Run(name, func(t *testing.T) {
			shell := start(t, local{shell: dash}, nil)
			_, err := shell.Run(t.Context(), driver.Command{Shell: line}, brokenWriter{}, nil)
			wantOutcome(t, err, driver.Unknown, driver.Unreachable)
			<-shell.Done()
		})
	}
}

func TestEveryCallerThatRunsOrWaitsIsToldWhyTheSessionEnds(t *testing.T) {
	here := local{shell: dash, dir: t.TempDir()}
	shell := start(t, here, nil)
	ran, waited := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := shell.Run(t.Context(), driver.Command{Shell: ": >started; sleep 60"}, nil, nil)
		ran <- err
	}()
	awaitFile(t, here.dir+"/started")
	go func() {
		_, err := shell.Run(t.Context(), driver.Command{Shell: ": >never"}, nil, nil)
		waited <- err
	}()
	shell.End(&driver.Error{Reason: "Deleted", Message: "a user deleted it"})
	shell.End(&driver.Error{Reason: "Later", Message: "too late"})
	wantOutcome(t, <-ran, driver.Unknown, "Deleted")
	err := <-waited
	wantOutcome(t, err, driver.NotStarted, "Deleted")
	if !strings.Contains(err.Error(), "a user deleted it") {
		t.Error(err)
	}
	<-shell.Done()
	if _, err := os.Stat(here.dir + "/never"); err == nil {
		t.Error("what waited has run")
	}
}

func TestAnIdleShellLeavesByItself(t *testing.T) {
	inEveryShell(t, func(t *testing.T, execer local) {
		shell := start(t, execer, nil)
		run(t, shell, "trap ': >left' EXIT")
		shell.Close()
		if _, err := os.Stat(execer.dir + "/left"); err != nil {
			t.Errorf("the trap did not run: %v", err)
		}
		if shell.Failure() != nil || shell.Err().Reason != session.Closed {
			t.Errorf("it ended with %v, because of %v", shell.Failure(), shell.Err())
		}
	})
}

func TestThereIsNoShellWithoutAnAnswer(t *testing.T) {
	dead := &driver.Error{Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "reset"}
	tests := map[string]struct {
		execer driver.Execer
		env    map[string]string
		reason driver.Reason
		words  []string
	}{
		"no sh": {
			local{shell: []string{"dash", "-c", "echo sh: not found >&2; exit 127"}},
			nil,
			driver.ProtocolError,
			[]string{"127", "sh: not found", "POSIX"},
		},
		"a connection that dies": {playing(func(context.Context, driver.Streams) (driver.ExitStatus, error) {
			return driver.ExitStatus{}, dead
		}), nil, driver.Unreachable, []string{"reset"}},
		"a variable that cannot be set": {
			local{shell: dash}, map[string]string{"a-b": "secret"}, driver.ProtocolError, []string{"env", "a-b"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := session.Start(t.Context(), tc.execer, driver.Place{}, tc.env)
			wantOutcome(t, err, driver.NotStarted, tc.reason)
			if err == nil || !hasWords(err.Error(), tc.words...) || strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
		})
	}
}

func TestCommandsThatNoSessionRuns(t *testing.T) {
	shell := start(t, local{shell: dash}, nil)
	tests := map[string]driver.Command{
		"nothing":        {},
		"both":           {Argv: []string{"a"}, Shell: "b"},
		"NUL in words":   {Argv: []string{"echo", "a\x00b"}},
		"NUL in a line":  {Shell: "echo a\x00b"},
		"a subsystem":    {Subsystem: "sftp"},
		"a terminal":     {Shell: "true", TTY: &driver.TTY{}},
		"an environment": {Shell: "true", Env: map[string]string{"A": "b"}},
		"a place":        {Shell: "true", Place: driver.Place{Pod: "p"}},
	}
	for name, command := range tests {
		if _, err := shell.Run(t.Context(), command, nil, nil); err == nil || driver.OutcomeOf(err) != driver.NotStarted {
			t.Errorf("%s: %v", name, err)
		}
	}
	run(t, shell, "true")
}

// playing is an Execer in memory.
type playing func(context.Context, driver.Streams) (driver.ExitStatus, error)

// Exec implements driver.Execer.
func (p playing) Exec(ctx context.Context, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	return p(ctx, streams)
}

// losing runs a shell whose output is lost from a moment on.
type losing struct {
	local

	lost *atomic.Bool
}

// Exec implements driver.Execer.
func (l losing) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	streams.Stdout, streams.Stderr = l.through(streams.Stdout), l.through(streams.Stderr)
	return l.local.Exec(ctx, command, streams)
}

func (l losing) through(to io.Writer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if l.lost.Load() {
			return len(p), nil
		}
		return to.Write(p)
	})
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestACommandWhoseBeginningIsLostMayHaveRun(t *testing.T) {
	here := losing{local: local{shell: dash, dir: t.TempDir()}, lost: new(atomic.Bool)}
	shell := start(t, here, nil)
	here.lost.Store(true)
	_, err := shell.Run(t.Context(), driver.Command{Shell: ": >ran; exit 3"}, nil, nil)
	if got := driver.OutcomeOf(err); got != driver.Unknown {
		t.Errorf("outcome %s (%v), want %s", got, err, driver.Unknown)
	}
	awaitFile(t, here.dir+"/ran")
}
