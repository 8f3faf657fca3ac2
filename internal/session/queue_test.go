package session_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/session"
	"github.com/connpool/connpool/internal/session/sessiontest"
)

// slow is an Execer whose commands last a second each. It records their order.
type slow struct {
	mu  sync.Mutex
	ran []string
}

// Exec implements driver.Execer.
func (s *slow) Exec(ctx context.Context, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	return sessiontest.Exec(ctx, streams, func(ctx context.Context, line string, stdout, _ io.Writer) (int, bool) {
		if line == ":" {
			return 0, false
		}
		s.mu.Lock()
		s.ran = append(s.ran, line)
		s.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		_, _ = io.WriteString(stdout, line)
		return 0, false
	})
}

func (s *slow) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ran)
}

func startIn(t *testing.T, execer driver.Execer) *session.Shell {
	t.Helper()
	shell, err := session.Start(t.Context(), execer, driver.Place{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return shell
}

func TestCommandsRunInTheOrderInWhichTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := new(slow)
		shell := startIn(t, remote)
		defer shell.Close()
		var all sync.WaitGroup
		var want []string
		for i := range 101 {
			line := fmt.Sprint("command ", i)
			want = append(want, line)
			all.Go(func() {
				var out strings.Builder
				if _, err := shell.Run(t.Context(), driver.Command{Shell: line}, &out, nil); err != nil || out.String() != line {
					t.Errorf("%s: %q, %v", line, out.String(), err)
				}
			})
			synctest.Wait()
		}
		_, err := shell.Run(t.Context(), driver.Command{Shell: "one too many"}, nil, nil)
		wantOutcome(t, err, driver.NotStarted, driver.PoolExhausted)
		all.Wait()
		if got := remote.lines(); !slices.Equal(got, want) {
			t.Errorf("the order was %q", got)
		}
	})
}

func TestACommandWhoseCallerStopsWaitingHasNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := new(slow)
		shell := startIn(t, remote)
		defer shell.Close()
		var first sync.WaitGroup
		first.Go(func() { _, _ = shell.Run(t.Context(), driver.Command{Shell: "first"}, nil, nil) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		_, err := shell.Run(ctx, driver.Command{Shell: "second"}, nil, nil)
		wantOutcome(t, err, driver.NotStarted, driver.Timeout)
		_, err = shell.Run(t.Context(), driver.Command{Shell: "third"}, nil, nil)
		wantOutcome(t, err, driver.Completed, "")
		first.Wait()
		if got := remote.lines(); !slices.Equal(got, []string{"first", "third"}) {
			t.Errorf("%q ran", got)
		}
		_, err = shell.Run(ctx, driver.Command{Shell: "too late"}, nil, nil)
		wantOutcome(t, err, driver.NotStarted, driver.Timeout)
	})
}

func TestNothingWaitsForEver(t *testing.T) {
	mute := playing(func(ctx context.Context, _ driver.Streams) (driver.ExitStatus, error) {
		<-ctx.Done()
		return driver.ExitStatus{}, &driver.Error{Reason: driver.Timeout, Started: true, Message: "canceled"}
	})
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := session.Start(t.Context(), mute, driver.Place{}, nil)
		wantOutcome(t, err, driver.NotStarted, driver.Timeout)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("a shell that does not answer was waited for %s", took)
		}
	})
	stubborn := playing(func(ctx context.Context, streams driver.Streams) (driver.ExitStatus, error) {
		_, _ = sessiontest.Exec(ctx, streams, func(context.Context, string, io.Writer, io.Writer) (int, bool) { return 0, false })
		return mute(ctx, streams)
	})
	synctest.Test(t, func(t *testing.T) {
		shell := startIn(t, stubborn)
		began := time.Now()
		shell.Close()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("a shell that does not leave was waited for %s", took)
		}
	})
}

func TestWhatWasNotHandedOverHasNotStarted(t *testing.T) {
	tests := map[string]struct {
		// takes is how much of a command is read.
		takes   int
		outcome driver.Outcome
	}{
		"nothing was read": {0, driver.NotStarted},
		"half was read":    {100, driver.NotStarted},
		"all was read":     {1 << 20, driver.Unknown},
	}
	for name, tc := range tests {
		for _, end := range []string{"the caller leaves", "the connection dies"} {
			t.Run(name+" and "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					kill := make(chan struct{})
					shell := startIn(t, deaf(tc.takes, kill))
					defer shell.Close()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					ran := make(chan error, 1)
					go func() {
						_, err := shell.Run(ctx, driver.Command{Shell: strings.Repeat("true;", 100)}, nil, nil)
						ran <- err
					}()
					synctest.Wait()
					if end == "the caller leaves" {
						cancel()
					} else {
						close(kill)
					}
					if err := <-ran; driver.OutcomeOf(err) != tc.outcome {
						t.Errorf("the outcome is %s (%v), want %s", driver.OutcomeOf(err), err, tc.outcome)
					}
				})
			})
		}
	}
}

// deaf plays a shell that answers once, reads so many bytes of the next command, and
// then nothing until its connection is killed.
func deaf(takes int, kill <-chan struct{}) driver.Execer {
	return playing(func(ctx context.Context, streams driver.Streams) (driver.ExitStatus, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer cancel()
			select {
			case <-kill:
			case <-ctx.Done():
			}
		}()
		streams.Stdin = &stingy{Reader: streams.Stdin, left: takes, done: ctx.Done()}
		commands := 0
		return sessiontest.Exec(ctx, streams, func(ctx context.Context, _ string, _, _ io.Writer) (int, bool) {
			if commands++; commands > 1 {
				<-ctx.Done()
			}
			return 0, false
		})
	})
}

// stingy reads the first command, and then only so many bytes.
type stingy struct {
	io.Reader
	first string
	left  int
	done  <-chan struct{}
}

// Read implements io.Reader.
func (s *stingy) Read(p []byte) (int, error) {
	if !strings.HasSuffix(s.first, "; }\n") {
		n, err := s.Reader.Read(p)
		s.first += string(p[:n])
		return n, err
	}
	if s.left == 0 {
		<-s.done
		return 0, io.EOF
	}
	n, err := s.Reader.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}
