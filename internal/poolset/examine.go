package poolset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// unexamined is the fitness before the first run of the health command. It
// needs no dial to become good: the command only runs on connections that live.
var unexamined = health{dialable: true}

// probe asks a connection for a proof that it serves. The protocol's own probe
// alone says whether the connection is any good; the health command, which
// follows it in its own period, says whether the target is, and closes nothing.
func (m *member) probe(ctx context.Context, c *conn) error {
	err := c.Probe(ctx)
	if isSessionRefusal(err) {
		err = nil // a busy server has answered, too
	}
	switch {
	case err == nil:
		m.observe(c.edition, c.answered(), nil)
		m.examine(ctx, c)
	case !errors.Is(ctx.Err(), context.Canceled): // else nobody wants to know
		m.observe(c.edition, probeFailed, driver.AsError(err))
	}
	return err
}

// answered is what a successful probe says: one of a connection that is young
// does not rule out that it is dropped in a moment.
func (c *conn) answered() healthEvent {
	if time.Since(c.made) < connpool.Steady {
		return probeSucceeded
	}
	return steadySucceeded
}

// dropped takes into account that a connection was lost soon after it was made.
func (m *member) dropped(c *conn, cause error) {
	err := *driver.AsError(cause)
	err.Message = "connections are dropped soon after they are made: " + err.Message
	m.observe(c.edition, connDropped, &err)
}

// examine runs the health command if it is due. It takes a session like any
// other command, so it waits for another time if all of them are leased.
func (m *member) examine(ctx context.Context, c *conn) {
	command := m.commandDue(c)
	if len(command) == 0 {
		return
	}
	m.pool.Hold(c, func() {
		c.examined = time.Now()
		failure := run(ctx, c.Conn, command)
		switch {
		case c.Context().Err() != nil || errors.Is(ctx.Err(), context.Canceled) || isSessionRefusal(failure):
			// Nothing was learned of the target.
		case failure == nil:
			m.judgeFitness(c.edition, probeSucceeded, nil)
		default:
			m.judgeFitness(c.edition, probeFailed, unfit(failure))
		}
	})
}

// commandDue returns the health command if it is due on a connection. Probes
// come up to a tenth of their period early.
func (m *member) commandDue(c *conn) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	period := m.policy.ProbePeriod
	if period <= 0 || time.Since(c.examined) < period-period/10 {
		return nil
	}
	return m.policy.ProbeCommand
}

// run runs the health command; an exit code other than 0 is an error.
func run(ctx context.Context, conn driver.Conn, command []string) error {
	execer, ok := conn.(driver.Execer)
	if !ok {
		return errors.New("the target runs no commands; remove health.command from the pool")
	}
	status, err := execer.Exec(ctx, driver.Command{Argv: command}, driver.Streams{})
	if err == nil && status.Code != 0 {
		return fmt.Errorf("health.command ended with exit code %d instead of 0; run it on the target to see why", status.Code)
	}
	return err
}

// unfit says that a reachable target failed its health command. It names no
// container or pod, so only hosts can run it.
func unfit(failure error) *driver.Error {
	err := &driver.Error{Reason: driver.ProbeFailed, Stage: driver.StageRun, Err: failure, Message: driver.Sanitize(failure.Error())}
	classified, ok := errors.AsType[*driver.Error](failure)
	switch {
	case ok && !classified.Started && classified.Reason == driver.ProtocolError:
		err.Message = "health.command runs on ssh targets only, so leave it out of pools of others: " + classified.Message
	case ok:
		err.Message = "health.command did not run to its end: " + classified.Message
	}
	return err
}

// judgeFitness moves the fitness on.
func (m *member) judgeFitness(e *edition, event healthEvent, err *driver.Error) {
	if m.moveFitness(e, event, err) {
		m.set.changed(m.target)
	}
}

func (m *member) moveFitness(e *edition, event healthEvent, err *driver.Error) (turned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.identity != m.edition.identity || len(m.policy.ProbeCommand) == 0 {
		return false
	}
	before := m.fitness.state
	m.fitness = m.fitness.next(event, err, m.thresholds())
	return m.fitness.state != before
}

// verdict is the health as others see it: a target must be reachable and fit.
// The caller holds mu.
func (m *member) verdict() health {
	if m.health.state != HealthDown && m.fitness.state == HealthDown {
		return m.fitness
	}
	return m.health
}
