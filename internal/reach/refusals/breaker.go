package refusals

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// Breaker is the circuit breaker of one access version. While it is half-open, a
// single trial dial finds out whether the target works. After a success it is
// closed and dials pass freely. After a permanent failure, or one for which the
// server named a time, it is open for a while and refuses dials. Dials that
// waited for a trial that failed get its error instead of repeating it. So a
// wrong key is offered once, however many pools and connections want the target.
type Breaker struct {
	mu sync.Mutex
	// closed is set by a dial that succeeded and cleared by one that failed.
	closed bool
	// trial is the dial that others wait for; nil when none runs.
	trial *Trial
	// open is why dials are refused, and until when.
	open refusal
	// early counts the early attempts after refusals; all are spent once a dial has
	// succeeded.
	early int
	// ended is when the last dial ended, insisted when MayInsist was last true.
	ended, insisted time.Time
}

// Trial is a dial that others wait for.
type Trial struct {
	done chan struct{}
	err  error
}

// SharedError is a dial error that the caller did not cause itself: another
// caller's dial got it. Metrics do not count it as a dial.
type SharedError struct{ Err error }

// Error is that of the shared error.
func (e *SharedError) Error() string { return e.Err.Error() }

// Unwrap returns the shared error.
func (e *SharedError) Unwrap() error { return e.Err }

// IsShared reports whether err is the error of another caller's dial.
func IsShared(err error) bool {
	_, shared := errors.AsType[*SharedError](err)
	return shared
}

// openFor is how long a failure that only a change can cure is not tried again:
// one bad key must not get the whole cluster penalized.
const openFor = 5 * time.Minute

// earlyAttempts are the waits after which credentials are offered again that a server
// has refused and has not accepted before: its users may be made while it boots. With
// these and openFor a server sees at most four failed logins in ten minutes, fewer than
// fail2ban takes for an attack (five), and never two within the five seconds by which
// OpenSSH's PerSourcePenalties punish each.
var earlyAttempts = []time.Duration{15 * time.Second, time.Minute}

// Enter returns the trial that the caller must run, or nil if the breaker is
// closed. Its error is that of ctx, or a *SharedError. A caller that got no error
// must dial and then call Leave.
func (b *Breaker) Enter(ctx context.Context) (*Trial, error) {
	b.mu.Lock()
	if b.open.holds() {
		defer b.mu.Unlock()
		return nil, &SharedError{b.open.left()}
	}
	if b.closed {
		b.mu.Unlock()
		return nil, nil //nolint:nilnil // no trial is needed
	}
	if b.trial == nil {
		defer b.mu.Unlock()
		b.trial = &Trial{done: make(chan struct{})}
		return b.trial, nil
	}
	running := b.trial
	b.mu.Unlock()
	select {
	case <-running.done:
		if running.err != nil {
			return nil, &SharedError{running.err}
		}
		return b.Enter(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// MayInsist reports whether the target may be dialed for a caller who does not take an old
// failure for an answer: if the newest dial succeeded, if a trial runs, which that dial
// shares, or if for the gap no dial has ended and no other caller was told so. Pools of
// one target have backoffs of their own; this is what they share.
func (b *Breaker) MayInsist(gap time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.closed || b.trial != nil {
		return true
	}
	if now.Sub(b.ended) < gap || now.Sub(b.insisted) < gap {
		return false
	}
	b.insisted = now
	return true
}

// Leave takes the result of a dial, and returns it with the wait until the next if that
// is an early one. A dial that failed because ctx ended proves nothing: one of the
// callers that wait for its trial makes the next.
func (b *Breaker) Leave(ctx context.Context, mine *Trial, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = time.Now()
	if err == nil || ctx.Err() == nil {
		err = b.hasten(err)
		b.closed = err == nil
		b.open = refusalAfter(err)
		if mine != nil {
			mine.err = err
		}
	}
	if mine != nil {
		b.trial = nil
		close(mine.done)
	}
	return err
}

// hasten returns the result of a dial, with a wait if the next is an early attempt.
func (b *Breaker) hasten(err error) error {
	if err == nil {
		b.early = len(earlyAttempts)
		return nil
	}
	failure, ok := driver.Classified(err)
	if !ok || !failure.MayCureSoon || failure.RetryAfter > 0 || b.early >= len(earlyAttempts) {
		return err
	}
	failure.RetryAfter = earlyAttempts[b.early]
	b.early++
	return failure
}

// Forgive allows the next dial or trial at once. A closed breaker stays closed.
func (b *Breaker) Forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = refusal{}
}

// refusalAfter returns for how long the result of a dial opens the breaker. The
// failure of a jump host does not: that has a breaker of its own.
func refusalAfter(err error) refusal {
	if err == nil {
		return refusal{}
	}
	failure := driver.AsError(err)
	wait := failure.RetryAfter
	switch {
	case failure.Reason == driver.JumpTargetNotReady:
		return refusal{}
	case wait == 0 && failure.Reason.Permanent():
		wait = openFor
	}
	return refusal{failure, time.Now().Add(wait)}
}
