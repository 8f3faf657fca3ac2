package session

import (
	"context"
	"io"
	"strconv"

	"github.com/connpool/connpool/internal/driver"
)

// Run runs one command in the shell, after those that came before; at most 100
// wait. Only Argv or Shell of the command may be set. A nil writer discards.
//
// The error is an *driver.Error with the outcome: driver.OutcomeOf tells. When ctx
// ends, or a writer fails, while the command runs, the session ends and the
// outcome is Unknown. A command that ends the shell has completed with the exit
// code of the shell. Run does not use the writers any more when it has returned,
// so it waits for a Write that has not.
func (s *Shell) Run(ctx context.Context, command driver.Command, stdout, stderr io.Writer) (driver.ExitStatus, error) {
	text, err := commandLine(command)
	if err != nil {
		return driver.ExitStatus{}, err
	}
	if err := s.line.enter(ctx); err != nil {
		return driver.ExitStatus{}, err
	}
	defer s.line.leave()
	return s.run(ctx, text, &section{out: stdout}, &section{out: stderr})
}

func (s *Shell) run(ctx context.Context, text string, stdout, stderr *section) (driver.ExitStatus, error) {
	mark, progress := newNonce(), newProgress()
	for _, part := range []*section{stdout, stderr} {
		part.begins, part.ends, part.progress = mark.begins(), mark.ends(), progress
	}
	if err := s.handOver(ctx, script(mark, text), stdout, stderr); err != nil {
		return driver.ExitStatus{}, err
	}
	cause := s.await(ctx, progress)
	some, all := s.input.withdraw()
	switch {
	case cause != nil && some:
		s.End(cause)
	case cause != nil:
		_, _ = s.rest()
		return driver.ExitStatus{}, gaveUp(ctx)
	}
	return s.conclude(all, stdout, stderr)
}

// handOver gives the shell a command, unless that is too late.
func (s *Shell) handOver(ctx context.Context, text string, stdout, stderr *section) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.why != nil:
		return outcome(s.why, false)
	case ctx.Err() != nil:
		return gaveUp(ctx)
	}
	s.busy = true
	s.stdout.expect(stdout)
	s.stderr.expect(stderr)
	s.input.write(text)
	return nil
}

func gaveUp(ctx context.Context) error {
	return &driver.Error{
		Reason: driver.Timeout, Stage: driver.StageSession, Err: context.Cause(ctx),
		Message: "the caller did not wait until the command was started; the session goes on",
	}
}

// errUnread is why a session ends when a writer has failed.
var errUnread = &driver.Error{
	Reason: driver.Unreachable, Stage: driver.StageRun,
	Message: "nobody takes the output of a command any more, and a shell cannot end one command alone",
}

// await waits until the command has ended on both streams or the session ends. What
// it returns is why the session has to end.
func (s *Shell) await(ctx context.Context, progress *progress) (cause *driver.Error) {
	for range 2 {
		select {
		case <-progress.ended:
		case <-s.ending:
			return nil
		case <-progress.broken:
			return errUnread
		case <-ctx.Done():
			return &driver.Error{
				Reason: driver.Timeout, Stage: driver.StageRun, Err: context.Cause(ctx),
				Message: "the caller of a command did not wait any longer, and a shell cannot end one command alone",
			}
		}
	}
	return nil
}

// conclude says how a command ended of which the shell got all, or too little to
// execute any.
func (s *Shell) conclude(all bool, stdout, stderr *section) (driver.ExitStatus, error) {
	why, exited := s.rest()
	switch {
	case stdout.failed != nil || stderr.failed != nil:
		s.End(errUnread)
		return driver.ExitStatus{}, outcome(errUnread, true)
	case stdout.over && stderr.over:
		code, err := strconv.Atoi(string(stdout.code))
		return driver.ExitStatus{Code: code}, err
	case exited && !stdout.begun:
		// It says so before it begins, but what a shell says last can be lost.
		return driver.ExitStatus{}, outcome(why, all)
	case exited && s.status.Signal == "":
		return s.status, nil
	}
	return driver.ExitStatus{}, outcome(why, all)
}

// rest makes the shell idle and takes the sections of the last command away. It
// says why the session ends, if it does, and whether the shell has exited by itself
// and all that it wrote has arrived.
func (s *Shell) rest() (why *driver.Error, exited bool) {
	s.mu.Lock()
	s.busy = false
	why = s.why
	select {
	case <-s.done:
		exited = s.failure == nil
	default:
	}
	s.mu.Unlock()
	s.stdout.dismiss(exited)
	s.stderr.dismiss(exited)
	return why, exited
}

// outcome says that a command was not started, or may have run, because the session
// ended.
func outcome(why *driver.Error, started bool) *driver.Error {
	end := &driver.Error{Reason: why.Reason, Stage: driver.StageSession, Started: started, Err: why}
	end.Message = "the session has ended: " + why.Message + "; create another one"
	if started {
		end.Stage = driver.StageRun
	}
	return end
}
