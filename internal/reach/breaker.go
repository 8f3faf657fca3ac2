package reach

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// breaker is the circuit breaker of one access version. While it is half-open, a
// single trial dial finds out whether the target works. After a success it is
// closed and dials pass freely. After a permanent failure, or one for which the
// server named a time, it is open for a while and refuses dials. Dials that
// waited for a trial that failed get its error instead of repeating it. So a
// wrong key is offered once, however many pools and connections want the target.
type breaker struct {
	mu sync.Mutex
	// closed is set by a dial that succeeded and cleared by one that failed.
	closed bool
	// trial is the dial that others wait for; nil when none runs.
	trial *trial
	// open is why dials are refused, and until when.
	open refusal
	// early counts the early attempts after refusals; all are spent once a dial has
	// succeeded.
	early int
}

// trial is a dial that others wait for.
type trial struct {
	done chan struct{}
	err  error
}

// sharedError is a dial error that the caller did not cause itself: another
// caller's dial got it. Metrics do not count it as a dial.
type sharedError struct{ error }

// Unwrap returns the shared error.
func (e *sharedError) Unwrap() error { return e.error }

// IsShared reports whether err is the error of another caller's dial.
func IsShared(err error) bool {
	_, shared := errors.AsType[*sharedError](err)
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

// enter returns the trial that the caller must run, or nil if the breaker is
// closed. Its error is that of ctx, or a *sharedError. A caller that got no error
// must dial and then call leave.
func (b *breaker) enter(ctx context.Context) (*trial, error) {
	b.mu.Lock()
	if b.open.holds() {
		defer b.mu.Unlock()
		return nil, &sharedError{b.open.left()}
	}
	if b.closed {
		b.mu.Unlock()
		return nil, nil //nolint:nilnil // no trial is needed
	}
	if b.trial == nil {
		defer b.mu.Unlock()
		b.trial = &trial{done: make(chan struct{})}
		return b.trial, nil
	}
	running := b.trial
	b.mu.Unlock()
	select {
	case <-running.done:
		if running.err != nil {
			return nil, &sharedError{running.err}
		}
		return b.enter(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// leave takes the result of a dial, and returns it with the wait until the next if that
// is an early one. A dial that failed because ctx ended proves nothing: one of the
// callers that wait for its trial makes the next.
func (b *breaker) leave(ctx context.Context, mine *trial, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
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
func (b *breaker) hasten(err error) error {
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

// forgive allows the next dial or trial at once. A closed breaker stays closed.
func (b *breaker) forgive() {
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

// refusal is an error that is remembered until a time. The zero value refuses
// nothing.
type refusal struct {
	err   *driver.Error
	until time.Time
}

// holds reports whether the error is still remembered.
func (r refusal) holds() bool { return r.err != nil && time.Now().Before(r.until) }

// left returns a copy of the error whose RetryAfter is the time that is left.
func (r refusal) left() *driver.Error {
	left := *r.err
	left.RetryAfter = max(0, time.Until(r.until))
	return &left
}
