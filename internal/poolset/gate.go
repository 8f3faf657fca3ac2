package poolset

import (
	"context"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// gate lets one dial at a time find out whether an endpoint works. Once it is
// proven, dials pass freely; a dial that waited for a trial which failed shares
// its verdict instead of repeating it; and a decisive failure keeps the gate
// shut for a while. So a wrong key costs one attempt, however many pools and
// connections want the target.
type gate struct {
	mu      sync.Mutex
	proven  bool
	trial   *trial
	verdict *driver.Error
	until   time.Time // the verdict holds until then
}

// trial is the dial that others wait for.
type trial struct {
	done chan struct{}
	err  error
}

// hearsay is the verdict of a dial that somebody else made. Unlike that one it
// is not counted as a dial.
type hearsay struct{ verdict error }

// Error is the verdict's.
func (h *hearsay) Error() string { return h.verdict.Error() }

// Unwrap returns the verdict.
func (h *hearsay) Unwrap() error { return h.verdict }

// decisiveFor is how long a failure that only a change can cure is not tried
// again: one bad key must not get the whole cluster penalized.
const decisiveFor = 5 * time.Minute

// dial runs one dial through the gate.
func (g *gate) dial(ctx context.Context, dial dialFunc) (driver.Conn, error) {
	mine, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx)
	if err != nil && ctx.Err() != nil {
		g.abandon(mine)
		return nil, err
	}
	g.leave(mine, err)
	return conn, err
}

// enter returns the trial that the caller must run, or nil if the endpoint is
// proven, or the verdict of somebody else's trial.
func (g *gate) enter(ctx context.Context) (*trial, error) {
	g.mu.Lock()
	if g.verdict != nil && time.Now().Before(g.until) {
		defer g.mu.Unlock()
		return nil, g.remaining()
	}
	if g.proven {
		g.mu.Unlock()
		return nil, nil //nolint:nilnil // no trial is needed
	}
	if g.trial == nil {
		defer g.mu.Unlock()
		g.trial = &trial{done: make(chan struct{})}
		return g.trial, nil
	}
	running := g.trial
	g.mu.Unlock()
	select {
	case <-running.done:
		if running.err != nil {
			return nil, &hearsay{running.err}
		}
		return g.enter(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// remaining is the verdict with the time that it still holds.
func (g *gate) remaining() error {
	verdict := *g.verdict
	verdict.RetryAfter = time.Until(g.until)
	return &hearsay{&verdict}
}

func (g *gate) leave(mine *trial, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proven = err == nil
	g.verdict, g.until = nil, time.Time{}
	if err != nil {
		g.judge(driver.AsError(err))
	}
	if mine != nil {
		mine.err = err
		g.trial = nil
		close(mine.done)
	}
}

// abandon ends a trial that proved nothing, because its caller went away: one of
// those who wait makes the next.
func (g *gate) abandon(mine *trial) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if mine != nil {
		g.trial = nil
		close(mine.done)
	}
}

// forgive opens the gate for the next trial. A proof stays one.
func (g *gate) forgive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.verdict, g.until = nil, time.Time{}
}

// judge shuts the gate if the failure holds for a while. What stands in the way
// is none of the endpoint's failures: a jump host has a gate of its own.
func (g *gate) judge(err *driver.Error) {
	if err.Reason == driver.JumpTargetNotReady {
		return
	}
	wait := err.RetryAfter
	if wait == 0 && err.Reason.Permanent() {
		wait = decisiveFor
	}
	if wait > 0 {
		g.verdict, g.until = err, time.Now().Add(wait)
	}
}
