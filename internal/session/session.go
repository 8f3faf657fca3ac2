// Package session keeps a shell on a target. Commands that are sent to it run one
// after the other in that shell and keep its directory, environment, functions and
// umask; each has its own stdout, stderr and exit code. A target needs nothing but
// a POSIX sh for it, and a driver nothing but an Execer, so it is the same on hosts,
// in containers and in pods.
//
//	shell, err := session.Start(ctx, conn, driver.Place{}, map[string]string{"STAGE": "prod"})
//	defer shell.Close()
//	_, err = shell.Run(ctx, driver.Command{Argv: []string{"cd", "/srv"}}, nil, nil)
//	status, err := shell.Run(ctx, driver.Command{Shell: "make >log 2>&1"}, os.Stdout, os.Stderr)
//
// The shell reads its program from its standard input, which this package writes.
// Each command is framed as one compound command. The shell reads that to its end
// before it does anything. The frame prints a marker with 128 random bits on both
// streams where the command begins, and another one with the exit code where it
// ends; see script. So a command costs one round trip, and its output may be any
// bytes. The command's standard input is empty, so that it cannot read the next
// command.
//
// At most once. The shell has not started a command that it did not read as a
// whole. When the shell exits by itself after it has begun a command, the command
// has completed with the shell's exit code. When the session ends in any other way
// before the command has, the outcome is Unknown.
//
// Trade-offs. One command alone cannot be canceled: signals reach the shell and
// all that runs in it, so a caller who stops waiting ends the session. Redirections
// made by exec last as long as their command, for the descriptors 0, 1, 2, 8 and 9.
// What processes in the background write while a command runs counts as its output.
// What they write between two commands is dropped, or it would be in the output of a
// command that did not write it; let them write to a file. A function called command
// does not outlive the command that defines it. What ends a shell by its own rules
// ends the session: exit, exec, a failure after set -e; in some shells also return
// at the top, or an exec whose redirection fails. A shell that is told to execute
// nothing (set -n) never answers again.
package session

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// startTimeout bounds how long a shell may take to answer for the first time.
	startTimeout = 10 * time.Second
	// endGrace is how long an idle shell has to exit by itself when its input ends,
	// so that its exit traps can run.
	endGrace = 2 * time.Second
	// maxPrefix bounds, in bytes, how much of the output is kept to explain why there
	// is no shell.
	maxPrefix = 1 << 10
)

// Reasons why a session ends, beside those of the drivers.
const (
	// Exited surfaces when the shell ended by itself.
	Exited driver.Reason = "Exited"
	// Closed surfaces when its owner called Close.
	Closed driver.Reason = "Closed"
)

// Shell is a shell that runs command after command. It is safe for concurrent use.
type Shell struct {
	input          *input
	stdout, stderr *scanner
	turns          *queue // of the commands
	// cancel ends the shell by force.
	cancel context.CancelFunc
	// ending is closed when why is set, done when the shell has ended and the execer
	// is not used any more.
	ending, done chan struct{}

	// mu guards what follows. No method waits while it holds mu.
	mu   sync.Mutex
	busy bool          // a command runs
	why  *driver.Error // why the session ends; nil while it lives
	// status and failure are what Exec returned; they are set before done.
	status  driver.ExitStatus
	failure error
}

// Start starts a shell with the variables env at a place and returns when the shell
// has answered, within 10 s. The end of ctx ends the start only: a shell that has
// answered runs until it exits or the caller ends it. The error is a *driver.Error
// with the outcome NotStarted.
func Start(ctx context.Context, execer driver.Execer, place driver.Place, env map[string]string) (*Shell, error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Shell{
		input: newInput(), stdout: new(scanner), stderr: new(scanner), turns: newQueue(), cancel: cancel,
		ending: make(chan struct{}), done: make(chan struct{}),
	}
	s.input.write(preamble)
	go s.runShell(running, execer, place)
	waiting, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	said := new(prefixBuffer)
	status, err := s.run(waiting, assignments(env), &section{}, &section{before: said, out: said})
	lives := s.Err() == nil && err == nil
	if lives && status.Code == 0 {
		return s, nil
	}
	s.cancel()
	s.Close()
	var why *driver.Error
	switch {
	case lives:
		why = driver.Errorf(driver.ProtocolError, driver.StageStart, "the shell refuses a variable of env: %s", said)
	case ctx.Err() != nil:
		why = driver.Errorf(driver.Timeout, driver.StageStart, "the caller did not wait until the shell had answered")
	case waiting.Err() != nil:
		why = driver.Errorf(driver.Timeout, driver.StageStart,
			"no shell answered within %s; see whether sh starts there", startTimeout)
	default:
		why = s.startError(said)
	}
	if failure, ok := driver.Classified(s.failure); ok {
		why.Leftover = failure.Leftover
	}
	return nil, why
}

// startError says why there is no shell. said is what came instead of an answer.
func (s *Shell) startError(said *prefixBuffer) *driver.Error {
	if s.failure != nil {
		return s.endReason()
	}
	words := said.String()
	if words != "" {
		words = " (" + words + ")"
	}
	return driver.Errorf(driver.ProtocolError, driver.StageStart,
		"no shell answered: sh ended with exit code %d%s; a session needs a POSIX sh in the PATH", s.status.Code, words)
}

// runShell runs the shell to its end.
func (s *Shell) runShell(ctx context.Context, execer driver.Execer, place driver.Place) {
	defer s.cancel()
	status, err := execer.Exec(ctx, driver.Command{Place: place, Argv: []string{"sh"}},
		driver.Streams{Stdin: s.input, Stdout: s.stdout, Stderr: s.stderr})
	s.input.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.failure = status, err
	s.endWith(s.endReason())
	close(s.done)
}

// endReason says why a shell ended by itself.
func (s *Shell) endReason() *driver.Error {
	switch {
	case s.failure != nil:
		failure := *driver.AsError(s.failure)
		failure.Started = false // it is about the shell, not about a command
		return &failure
	case s.status.Signal != "":
		return driver.Errorf(Exited, driver.StageRun, "the shell was ended by signal %s", driver.Sanitize(s.status.Signal))
	default:
		return driver.Errorf(Exited, driver.StageRun, "the shell exited with code %d", s.status.Code)
	}
}

// endWith records why the session ends; the first reason stays. The caller holds mu.
func (s *Shell) endWith(why *driver.Error) {
	if s.why == nil {
		s.why = why
		close(s.ending)
	}
}

// End ends the shell for a reason and does not wait. An idle shell has 2 s to exit
// by itself. A command that runs is signaled at once, and its outcome is Unknown.
// The reason of a later call is dropped.
func (s *Shell) End(why *driver.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endWith(why)
	s.input.end()
	if s.busy {
		s.cancel()
		return
	}
	time.AfterFunc(endGrace, s.cancel)
}

// Close ends the shell and waits until it has ended.
func (s *Shell) Close() {
	s.End(driver.Errorf(Closed, driver.StageSession, "the session was closed"))
	<-s.done
}

// Done returns a channel that is closed when the shell has ended and does not use
// its execer any more.
func (s *Shell) Done() <-chan struct{} { return s.done }

// Err returns why the session ends or has ended; nil while it lives.
func (s *Shell) Err() *driver.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Failure returns the error of the shell's own Exec: it tells whether the connection
// is suspect. It is nil if the shell exited by itself. Failure waits until the shell
// has ended.
func (s *Shell) Failure() error {
	<-s.done
	return s.failure
}

// prefixBuffer keeps the first maxPrefix bytes of what is written.
type prefixBuffer struct{ kept strings.Builder }

func (b *prefixBuffer) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), maxPrefix-b.kept.Len())])
	return len(p), nil
}

// String returns what was kept, made safe for a message.
func (b *prefixBuffer) String() string { return driver.Sanitize(b.kept.String()) }
