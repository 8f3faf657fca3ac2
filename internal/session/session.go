// Package session keeps a shell on a target: commands that are sent to it run one
// after the other in that shell and keep its directory, environment, functions and
// umask; each has its own stdout, stderr and exit code. It needs no more of a
// target than a POSIX sh, and no more of a driver than an Execer, so it is the
// same on hosts, in containers and in pods.
//
//	shell, err := session.Start(ctx, conn, driver.Place{}, map[string]string{"STAGE": "prod"})
//	defer shell.Close()
//	_, err = shell.Run(ctx, driver.Command{Argv: []string{"cd", "/srv"}}, nil, nil)
//	status, err := shell.Run(ctx, driver.Command{Shell: "make >log 2>&1"}, os.Stdout, os.Stderr)
//
// The shell reads its program from the stream that we write. What is written for a
// command is one compound command, which the shell reads to its end before it does
// anything, and which says on both streams, with 128 random bits, where the
// command begins and how it ended; see script. So a command costs one round trip,
// and its output may be any bytes. Its standard input is empty: it cannot swallow
// the next one.
//
// At most once: a command that was not handed over as a whole, or whose beginning
// the shell never reported although it lived to report its own end, has proved not
// to have started. All else that ends without an end is Unknown.
//
// Trade-offs. One command alone cannot be canceled: signals reach the shell and
// all that runs in it, so a caller who does not wait ends the session. Redirections
// made by exec last as long as their command, for the descriptors 0, 1, 2, 8 and 9.
// What processes in the background write while a command runs counts as its
// output; what they write between two commands is dropped, since otherwise no
// command's output could be relied on: let them write to a file. A function called
// command does not outlive the command that defines it. What ends a shell by its
// own rules ends the session: exit, exec, a failure after set -e; in some shells
// also return at the top, or an exec whose redirection fails. A shell that is told
// to execute nothing (set -n) never answers again.
package session

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// startTimeout bounds how long a shell may take to answer for the first time.
	startTimeout = 10 * time.Second
	// endGrace is how long an idle shell has to leave by itself, when its input
	// ends: traps of its exit run.
	endGrace = 2 * time.Second
	// maxNoise bounds what is kept of words that explain why there is no shell.
	maxNoise = 1 << 10
)

// Reasons why a session ends, beside those of the drivers.
const (
	// Exited surfaces when the shell ended by itself.
	Exited driver.Reason = "Exited"
	// Closed surfaces when its owner called Close.
	Closed driver.Reason = "Closed"
)

// Shell is a shell that stays. It is safe for concurrent use.
type Shell struct {
	input          *input
	stdout, stderr *scanner
	line           *line
	// cancel ends the shell by force.
	cancel context.CancelFunc
	// ending is closed when why is set, done when the shell has ended and nothing
	// uses the execer any more.
	ending, done chan struct{}

	// mu guards what follows; nothing waits under it.
	mu   sync.Mutex
	busy bool
	why  *driver.Error
	// status and failure are what Exec returned; they are set before done.
	status  driver.ExitStatus
	failure error
}

// Start starts a shell with the variables env at a place and returns when it has
// answered, within 10 s. The shell runs until it ends or is ended, whatever becomes
// of ctx. The error is an *driver.Error that proves that no command has run.
func Start(ctx context.Context, execer driver.Execer, place driver.Place, env map[string]string) (*Shell, error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Shell{
		input: newInput(), stdout: new(scanner), stderr: new(scanner), line: new(line), cancel: cancel,
		ending: make(chan struct{}), done: make(chan struct{}),
	}
	s.input.write(preamble)
	go s.live(running, execer, place)
	waiting, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	said := new(noise)
	status, err := s.run(waiting, assignments(env), &section{}, &section{before: said, out: said})
	lives := s.Err() == nil
	if lives && err == nil && status.Code == 0 {
		return s, nil
	}
	s.cancel()
	s.Close()
	switch {
	case lives && err == nil:
		return nil, failed(driver.ProtocolError, "the shell refuses a variable of env: "+said.String())
	case ctx.Err() != nil:
		return nil, failed(driver.Timeout, "the caller did not wait until the shell had answered")
	case waiting.Err() != nil:
		return nil, failed(driver.Timeout, fmt.Sprintf("no shell answered within %s; see whether sh starts there", startTimeout))
	}
	return nil, s.absence(said)
}

// absence says why there is no shell.
func (s *Shell) absence(said *noise) error {
	if s.failure == nil {
		message := fmt.Sprintf("no shell answered: sh ended with exit code %d", s.status.Code)
		if words := said.String(); words != "" {
			message += " (" + words + ")"
		}
		return failed(driver.ProtocolError, message+"; a session needs a POSIX sh in the PATH")
	}
	failure := *driver.AsError(s.failure)
	failure.Started = false
	return &failure
}

func failed(reason driver.Reason, message string) *driver.Error {
	return &driver.Error{Reason: reason, Stage: driver.StageStart, Message: message}
}

// live runs the shell to its end.
func (s *Shell) live(ctx context.Context, execer driver.Execer, place driver.Place) {
	defer s.cancel()
	status, err := execer.Exec(ctx, driver.Command{Place: place, Argv: []string{"sh"}},
		driver.Streams{Stdin: s.input, Stdout: s.stdout, Stderr: s.stderr})
	s.input.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.failure = status, err
	s.because(s.obituary())
	close(s.done)
}

// obituary says why a shell ended that nobody has ended.
func (s *Shell) obituary() *driver.Error {
	switch {
	case s.failure != nil:
		death := *driver.AsError(s.failure)
		death.Started = false // a shell; of commands it says nothing
		return &death
	case s.status.Signal != "":
		return exited("the shell was ended by signal " + driver.Sanitize(s.status.Signal))
	default:
		return exited(fmt.Sprintf("the shell exited with code %d", s.status.Code))
	}
}

func exited(message string) *driver.Error {
	return &driver.Error{Reason: Exited, Stage: driver.StageRun, Message: message}
}

// because notes why the session ends; the first reason stays. mu is held.
func (s *Shell) because(why *driver.Error) {
	if s.why == nil {
		s.why = why
		close(s.ending)
	}
}

// End ends the shell for a reason and does not wait. An idle shell has 2 s to
// leave by itself; a command that runs is signaled at once, and its outcome is
// Unknown. Later calls do nothing.
func (s *Shell) End(why *driver.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.because(why)
	s.input.end()
	if s.busy {
		s.cancel()
		return
	}
	time.AfterFunc(endGrace, s.cancel)
}

// Close ends the shell and waits until it has ended.
func (s *Shell) Close() {
	s.End(&driver.Error{Reason: Closed, Stage: driver.StageSession, Message: "the session was closed"})
	<-s.done
}

// Done is closed when the shell has ended and does not use its execer any more.
func (s *Shell) Done() <-chan struct{} { return s.done }

// Err says why the session has ended or ends; nil while it lives.
func (s *Shell) Err() *driver.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Failure is the error of the Exec under the shell, nil if the shell ended by
// itself: it tells whether the connection is suspect. Only after Done.
func (s *Shell) Failure() error {
	<-s.done
	return s.failure
}

// noise keeps the beginning of what is written.
type noise struct{ kept strings.Builder }

// Write implements io.Writer.
func (n *noise) Write(p []byte) (int, error) {
	n.kept.Write(p[:min(len(p), maxNoise-n.kept.Len())])
	return len(p), nil
}

// String is safe for a message.
func (n *noise) String() string { return driver.Sanitize(n.kept.String()) }
