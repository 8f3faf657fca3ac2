package drivertest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/connpool/connpool/internal/driver"
)

// untilReady is a writer that knows when a command has written something.
type untilReady struct {
	once  sync.Once
	ready chan struct{}
	// release, when not nil, holds every Write until it is closed.
	release chan struct{}
}

func newUntilReady() *untilReady { return &untilReady{ready: make(chan struct{})} }

func (u *untilReady) Write(p []byte) (int, error) {
	u.once.Do(func() { close(u.ready) })
	if u.release != nil {
		<-u.release
	}
	return len(p), nil
}

func (s suite) cancel(t *testing.T) {
	conn := s.dial(t)
	t.Run("before it starts, which is proven", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.try(ctx, conn, driver.Command{Argv: []string{"true"}}, nil)
		wantOutcome(t, err, driver.NotStarted)
	})
	t.Run("while it runs, and is signaled", func(t *testing.T) {
		ended := filepath.Join(t.TempDir(), "ended")
		err := s.cancelReady(t, conn, fmt.Sprintf(
			`trap 'echo yes > %s; exit' TERM; while echo ready; do sleep 0.05; done`, ended))
		wantOutcome(t, err, driver.Unknown)
		if text, err := os.ReadFile(ended); s.Signals && string(text) != "yes\n" {
			t.Errorf("the command was not signaled: %q, %v", text, err)
		}
	})
	t.Run("while it reads input that never ends", func(t *testing.T) {
		wantOutcome(t, s.cancelReady(t, conn, "echo ready; cat"), driver.Unknown)
	})
	if s.Signals {
		t.Run("by a signal of the caller, after which it ends as it likes", func(t *testing.T) { s.signalFromCaller(t, conn) })
		t.Run("because its connection is closed, and is signaled", s.closeRunning)
		t.Run("while its output is not taken, and is signaled all the same", s.cancelStuck)
	}
	t.Run("because its output has no reader", func(t *testing.T) { s.cancelUnread(t, conn) })
	t.Run("because its input broke off, which it must not take for the end", func(t *testing.T) { s.cancelCutInput(t, conn) })
	t.Run("and the connection goes on", func(t *testing.T) {
		if got := s.run(t, conn, driver.Command{Argv: []string{"echo", "on"}}, nil).Stdout; got != "on\n" {
			t.Errorf("output %q", got)
		}
	})
}

// signalFromCaller sends a signal to a command that cleans up then.
func (s suite) signalFromCaller(t *testing.T, conn driver.Conn) {
	t.Helper()
	signals, stdout := make(chan driver.Signal, 1), newUntilReady()
	go func() {
		<-stdout.ready
		signals <- "INT"
	}()
	status, err := s.start(t.Context(), conn, driver.Command{Shell: `trap 'exit 3' INT; while echo ready; do sleep 0.05; done`},
		driver.Streams{Stdout: stdout, Signals: signals})
	if err != nil || status != (driver.ExitStatus{Code: 3}) {
		t.Errorf("it ended with %+v, %v", status, err)
	}
}

func (s suite) cancelUnread(t *testing.T, conn driver.Conn) {
	t.Helper()
	reader, writer := io.Pipe()
	_ = reader.Close()
	_, err := s.start(t.Context(), conn, driver.Command{Argv: []string{"yes"}}, driver.Streams{Stdout: writer})
	wantOutcome(t, err, driver.Unknown)
}

func (s suite) cancelCutInput(t *testing.T, conn driver.Conn) {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole")
	stdin, feed := io.Pipe()
	go func() {
		_, _ = io.WriteString(feed, "half")
		_ = feed.CloseWithError(io.ErrUnexpectedEOF)
	}()
	line := "cat >/dev/null && echo yes > " + whole
	_, err := s.start(t.Context(), conn, driver.Command{Shell: line}, driver.Streams{Stdin: stdin})
	wantOutcome(t, err, driver.Unknown)
	if _, err := os.Stat(whole); s.Signals && err == nil {
		t.Error("the command ended as if it had got all of its input")
	}
}

// cancelReady cancels a command after it has said that it runs.
func (s suite) cancelReady(t *testing.T, conn driver.Conn, line string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdin, feed := io.Pipe()
	defer feed.Close() //nolint:errcheck // never fails
	stdout := newUntilReady()
	go func() {
		<-stdout.ready
		cancel()
	}()
	_, err := s.start(ctx, conn, driver.Command{Shell: line},
		driver.Streams{Stdin: stdin, Stdout: stdout})
	return err
}

// cancelStuck cancels a command whose output is not read before the signal has arrived
// at the command.
func (s suite) cancelStuck(t *testing.T) {
	signaled := filepath.Join(t.TempDir(), "signaled")
	if err := syscall.Mkfifo(signaled, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout := newUntilReady()
	stdout.release = make(chan struct{})
	go func() {
		<-stdout.ready
		cancel()
		if text, err := os.ReadFile(signaled); string(text) != "yes\n" {
			t.Errorf("the signal's trace is %q, %v", text, err)
		}
		close(stdout.release)
	}()
	_, err := s.start(ctx, s.dial(t), driver.Command{Shell: fmt.Sprintf(
		`trap 'echo yes > %s; exit' TERM; while echo ready; do sleep 0.05; done`, signaled)}, driver.Streams{Stdout: stdout})
	wantOutcome(t, err, driver.Unknown)
}

// closeRunning closes a connection on which a silent command runs. Without a signal the
// command would never notice.
func (s suite) closeRunning(t *testing.T) {
	conn, ended := s.dial(t), filepath.Join(t.TempDir(), "ended")
	stdout := newUntilReady()
	go func() {
		<-stdout.ready
		_ = conn.Close()
	}()
	line := fmt.Sprintf(`trap 'echo yes > %s; exit' TERM; echo ready; while :; do sleep 0.05; done`, ended)
	_, err := s.start(t.Context(), conn, driver.Command{Shell: line}, driver.Streams{Stdout: stdout})
	wantOutcome(t, err, driver.Unknown)
	if text, err := os.ReadFile(ended); string(text) != "yes\n" {
		t.Errorf("the command was not signaled: %q, %v", text, err)
	}
}
