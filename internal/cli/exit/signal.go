package exit

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// SignalError is the cause of a context that a signal to this process has ended.
type SignalError struct {
	// Name is without SIG.
	Name string
	// Code is how a shell reports a program that the signal ended.
	Code int
}

// Error implements error.
func (s *SignalError) Error() string { return "interrupted by SIG" + s.Name }

// Is reports whether target is context.Canceled, as the cause of most canceled contexts.
func (s *SignalError) Is(target error) bool { return target == context.Canceled }

// signals are those that end a command of the plugin.
var signals = map[os.Signal]*SignalError{
	os.Interrupt: {"INT", Interrupted}, syscall.SIGTERM: {"TERM", Terminated}, syscall.SIGHUP: {"HUP", HungUp},
}

// patience is in a context of UntilSignal.
type patience struct {
	asked  atomic.Bool
	second chan struct{}
}

type patienceKey struct{}

// UntilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP ends, unless
// this process ignores SIGHUP; its cause is then a *SignalError. After that, signals have their usual effect on the process, so that
// a second one ends it at once, unless the command has asked for SecondSignal.
func UntilSignal(ctx context.Context) (until context.Context, stop context.CancelFunc) {
	p := &patience{second: make(chan struct{})}
	until, end := context.WithCancelCause(context.WithValue(ctx, patienceKey{}, p))
	received, stopped := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it, and Notify would not leave it
		signal.Notify(received, syscall.SIGHUP)
	}
	go p.wait(received, stopped, end)
	return until, func() {
		close(stopped)
		end(context.Canceled)
	}
}

func (p *patience) wait(received chan os.Signal, stopped <-chan struct{}, end context.CancelCauseFunc) {
	defer signal.Stop(received)
	select {
	case first := <-received:
		if !p.asked.Load() {
			signal.Stop(received) // before the context ends: then a second signal is not caught
			end(signals[first])
			return
		}
		end(signals[first])
	case <-stopped:
		return
	}
	select {
	case <-received:
		close(p.second)
	case <-stopped:
	}
}

// SecondSignal returns a channel that the second signal closes, which then does not end
// the process; a third one does. It must be called before the first signal. For a
// context that is not of UntilSignal it is nil.
func SecondSignal(ctx context.Context) <-chan struct{} {
	p, ok := ctx.Value(patienceKey{}).(*patience)
	if !ok {
		return nil
	}
	p.asked.Store(true)
	return p.second
}

// SignalOf returns the signal that has ended a context. A context that was canceled in
// another way counts as interrupted.
func SignalOf(ctx context.Context) *SignalError {
	if cause, ok := errors.AsType[*SignalError](context.Cause(ctx)); ok {
		return cause
	}
	return signals[os.Interrupt]
}

// WithSignal returns the error of a command with the exit code of the signal that has
// ended its context, if one has. An error with the code of a remote command keeps that,
// also if it is 0; failed is the code of the command's own failures.
func WithSignal(ctx context.Context, err error, failed int) error {
	ended, ok := errors.AsType[*SignalError](context.Cause(ctx))
	if !ok {
		return err
	}
	own, hasOwn := errors.AsType[*codeError](err)
	isOurs := hasOwn && (own.code == Interrupted || own.code == Failed && failed == Failed)
	switch {
	case hasOwn && !isOurs:
		return err
	case hasOwn:
		return WithError(ended.Code, own.err)
	case errors.Is(err, context.Canceled):
		return With(ended.Code)
	}
	return WithError(ended.Code, err)
}
