package poolset

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

const (
	// recoveryProbePeriod is how often the connections of a failed target are
	// probed, so that it is known soon whether it is good again.
	recoveryProbePeriod = time.Second
	// waitForever leaves the bound of a dial to the edition: the wait for the
	// gate and for the budget is not the target's fault.
	waitForever = time.Duration(math.MaxInt64)
)

// member is one pool's connections to one target.
type member struct {
	set    *Set
	target Ref
	owner  Ref // the pool
	pool   *connpool.Pool[driver.Conn]

	// mu guards the rest.
	mu      sync.Mutex
	policy  Policy
	edition *edition
	health  health
	// version is what the newest connection's server called itself.
	version string
	// refusals counts failed dials by reason; nil before the first.
	refusals map[driver.Reason]uint64
}

func (s *Set) newMember(target Ref, pool Pool, first *edition) *member {
	m := &member{set: s, target: target, owner: pool.Ref, policy: pool.Policy, edition: first}
	// Dials begin at once and end by taking the lock, so they see m complete.
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool = connpool.New(connpool.Options[driver.Conn]{
		Dial:   m.dialer(first, pool.Policy),
		Probe:  m.probe,
		Judge:  judge,
		Notify: func() { s.changed(target) },
		Limits: m.limits(),
	})
	return m
}

// dialer makes the dial function of an edition. Prepare has accepted the
// endpoint already, so its error here is that of a dial.
func (m *member) dialer(e *edition, policy Policy) connpool.DialFunc[driver.Conn] {
	dial, err := e.dialer(m.set, policy)
	return func(ctx context.Context) (driver.Conn, error) {
		if err != nil {
			return nil, err
		}
		conn, err := dial(ctx)
		m.dialled(e, conn, err, ctx.Err() != nil)
		return conn, err
	}
}

// dialled takes the result of a dial into account. New credentials that fail on
// trial say nothing of the old ones, which serve.
func (m *member) dialled(e *edition, conn driver.Conn, err error, abandoned bool) {
	if err == nil {
		m.mu.Lock()
		m.version = conn.Info().ServerVersion
		m.mu.Unlock()
		m.observe(dialSucceeded, nil)
		return
	}
	if abandoned {
		return
	}
	failure := driver.AsError(err)
	m.count(failure.Reason)
	if !m.onTrial(e) {
		m.observe(dialFailed, failure)
	}
}

func (m *member) count(reason driver.Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals == nil {
		m.refusals = map[driver.Reason]uint64{}
	}
	m.refusals[reason]++
}

// onTrial reports whether older connections serve while the edition is tried.
func (m *member) onTrial(e *edition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return e == m.edition && m.pool.Stats().Rotation.Pending
}

// probe asks a connection for a proof that it serves.
func (m *member) probe(ctx context.Context, conn driver.Conn) error {
	m.mu.Lock()
	command := m.policy.ProbeCommand
	m.mu.Unlock()
	err := probe(ctx, conn, command)
	if err != nil {
		m.observe(probeFailed, driver.AsError(err))
		return err
	}
	m.observe(probeSucceeded, nil)
	return nil
}

func probe(ctx context.Context, conn driver.Conn, command []string) error {
	if len(command) == 0 {
		return conn.Probe(ctx)
	}
	execer, ok := conn.(driver.Execer)
	if !ok {
		return &driver.Error{Reason: driver.ProbeFailed, Stage: driver.StageRun,
			Message: "the target runs no commands; remove health.command from the pool"}
	}
	status, err := execer.Exec(ctx, driver.Command{Argv: command}, driver.Streams{})
	if err != nil {
		return err
	}
	if status.Code != 0 {
		return &driver.Error{Reason: driver.ProbeFailed, Stage: driver.StageRun, Message: fmt.Sprintf(
			"health.command ended with exit code %d instead of 0; run it on the target to see why", status.Code)}
	}
	return nil
}

// observe moves the health on. The limits follow it: a failed target is probed
// more often.
func (m *member) observe(event healthEvent, err *driver.Error) {
	m.mu.Lock()
	before := m.health
	m.health = before.next(event, err, thresholds{m.policy.FailureThreshold, m.policy.SuccessThreshold})
	turned := before.state != m.health.state
	limits := m.limits()
	m.mu.Unlock()
	if turned {
		m.pool.SetLimits(limits)
		m.set.changed(m.target)
	}
}

// limits are the policy's as far as the health allows. The caller holds mu.
func (m *member) limits() connpool.Limits {
	limits := m.policy.Limits
	limits.DialTimeout = waitForever
	if m.health.state == HealthDown {
		limits.ProbePeriod = min(limits.ProbePeriod, recoveryProbePeriod)
	}
	if limits.Paused {
		limits.MinWarm = 0
	}
	return limits
}

// keepaliveDiffers reports whether connections must be made anew to obey the
// policy.
func (m *member) keepaliveDiffers(policy Policy) bool {
	return m.policy.KeepaliveInterval != policy.KeepaliveInterval || m.policy.KeepaliveTimeout != policy.KeepaliveTimeout
}

// reach points the member at an edition: another host or account at once, new
// credentials as soon as they are proven.
func (m *member) reach(next *edition, policy Policy, elsewhere bool) {
	m.mu.Lock()
	m.edition = next
	if elsewhere || m.health.state == HealthDown {
		m.health = health{}
	}
	m.mu.Unlock()
	if elsewhere {
		m.pool.Replace(m.dialer(next, policy))
		return
	}
	m.pool.Rotate(m.dialer(next, policy))
}

// apply takes a new policy.
func (m *member) apply(policy Policy) {
	m.mu.Lock()
	paused := policy.Paused && !m.policy.Paused
	m.policy = policy
	limits := m.limits()
	m.mu.Unlock()
	m.pool.SetLimits(limits)
	if paused {
		m.pool.RecycleAll()
	}
}

// judge says how a failed dial is retried.
func judge(err error) connpool.Verdict {
	var classified *driver.Error
	if !errors.As(err, &classified) {
		return connpool.Verdict{}
	}
	return connpool.Verdict{Park: isDecisive(classified), RetryAfter: classified.RetryAfter}
}
