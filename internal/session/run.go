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
// The error is a *driver.Error; driver.OutcomeOf returns its outcome. When ctx ends,
// or a writer fails, while the command runs, the session ends and the outcome is
// Unknown. A command that ends the shell has completed with the exit code of the
// shell. The writers are not used any more when Run has returned: it waits for a
// Write that has not returned.
func (s *Shell) Run(ctx context.Context, command driver.Command, stdout, stderr io.Writer) (driver.ExitStatus, error) {
	text, err := commandLine(command)
	if err != nil {
		return driver.ExitStatus{}, err
	}
	if err := s.turns.enter(ctx); err != nil {
		return driver.ExitStatus{}, err
	}
	defer s.turns.leave()
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
		s.idle(false)
		return driver.ExitStatus{}, gaveUp(ctx)
	}
	return s.conclude(all, stdout, stderr)
}

// handOver gives the shell a command, unless the session ends or ctx has ended.
func (s *Shell) handOver(ctx context.Context, text string, stdout, stderr *section) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.why != nil:
		return ended(s.why, false)
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
	return driver.Errorf(driver.Timeout, driver.StageSession,
		"the caller did not wait until the command was started; the session goes on").Because(context.Cause(ctx))
}

// errUnread is why a session ends when a writer has failed.
var errUnread = driver.Errorf(driver.Unreachable, driver.StageRun,
	"the output of a command could not be written any more, and a shell cannot end one command alone")

// await waits until the command has ended on both streams or the session ends. It
// returns why the session has to end, or nil if the command has ended or the session
// ends already.
func (s *Shell) await(ctx context.Context, progress *progress) (cause *driver.Error) {
	for range 2 {
		select {
		case <-progress.ended:
		case <-s.ending:
			return nil
		case <-progress.failed:
			return errUnread
		case <-ctx.Done():
			return driver.Errorf(driver.Timeout, driver.StageRun,
				"the caller of a command stopped waiting, and a shell cannot end one command alone").Because(context.Cause(ctx))
		}
	}
	return nil
}

// conclude says how a command has ended. all reports whether the shell has read the
// whole command; otherwise it has executed nothing of it.
func (s *Shell) conclude(all bool, stdout, stderr *section) (driver.ExitStatus, error) {
	why, exited := s.exit()
	s.idle(exited)
	switch {
	case stdout.failure != nil || stderr.failure != nil:
		s.End(errUnread)
		return driver.ExitStatus{}, ended(errUnread, true)
	case stdout.over && stderr.over:
		code, err := strconv.Atoi(string(stdout.code))
		return driver.ExitStatus{Code: code}, err
	case exited && !stdout.begun:
		// The marker comes before the command, but the last output of a shell can be
		// lost.
		return driver.ExitStatus{}, ended(why, all)
	case exited && s.status.Signal == "":
		return s.status, nil
	}
	return driver.ExitStatus{}, ended(why, all)
}

// exit returns why the session ends, or nil while it lives. It reports whether the
// shell has exited by itself, so that all that it wrote has arrived.
func (s *Shell) exit() (why *driver.Error, exited bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		exited = s.failure == nil
	default:
	}
	return s.why, exited
}

// idle makes the shell idle and drops the sections of the last command. exited
// reports whether both streams have ended.
func (s *Shell) idle(exited bool) {
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	s.stdout.dismiss(exited)
	s.stderr.dismiss(exited)
}

// ended says that a command was not started, or may have run, because the session
// ended.
func ended(why *driver.Error, started bool) *driver.Error {
	stage, fate := driver.StageSession, ""
	if started {
		stage, fate = driver.StageRun, "; the command may still run"
	}
	end := driver.Errorf(why.Reason, stage, "the session has ended: %s%s; create another one", why.Message, fate).Because(why)
	end.Started = started
	return end
}
