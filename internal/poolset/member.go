package poolset

import (
	"context"
	"errors"
	"math"
	"slices"
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
	pool   *connpool.Pool[*conn]

	// mu guards the rest. The pool may be called under it.
	mu     sync.Mutex
	policy Policy
	// edition is a copy of the target's for each call of reach, so that it
	// tells what was made before and after.
	edition *edition
	// trusted are the pins that the newest connection was made with.
	trusted string
	// health is what dials and the protocol's own probes say of the target,
	// fitness what the pool's health command does.
	health  health
	fitness health
	// version is what the newest connection's server called itself.
	version string
	// handshakes is the time that successful dials took, without their waits for
	// the gate, the jump host and the budget.
	handshakes time.Duration
	// refusals counts failed dials by reason; nil before the first.
	refusals map[driver.Reason]uint64
}

func (s *Set) newMember(target Ref, pool Pool, first *edition, dial dialFunc) *member {
	m := &member{set: s, target: target, owner: pool.Ref, policy: pool.Policy, edition: first, fitness: unexamined}
	// Dials begin at once and end by taking the lock, so they see m complete.
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool = connpool.New(connpool.Options[*conn]{
		Dial:    m.dialer(first, dial),
		Probe:   m.probe,
		Judge:   judge,
		Dropped: m.dropped,
		Notify:  func() { s.changed(target) },
		Limits:  m.limits(),
	})
	return m
}

// dialer makes the pool's dial function for an edition. What a dial finds that
// nobody waits for any more does not count.
func (m *member) dialer(e *edition, dial dialFunc) connpool.DialFunc[*conn] {
	return func(ctx context.Context) (*conn, error) {
		made, err := dial(ctx)
		if ctx.Err() == nil {
			m.dialed(e, made, err)
		}
		if err != nil {
			m.disown(e, dial, err)
			return nil, err
		}
		now := time.Now()
		return &conn{Conn: made, edition: e, made: now, examined: now}, nil
	}
}

// dialed takes the result of a dial into account.
func (m *member) dialed(e *edition, made driver.Conn, err error) {
	if err == nil {
		m.describe(e, made.Info())
		m.observe(e, dialSucceeded, nil)
		return
	}
	failure := driver.AsError(err)
	if heard := (*hearsay)(nil); !errors.As(err, &heard) {
		m.count(failure.Reason)
	}
	m.observe(e, dialFailed, failure)
}

// disown gives up the connections made on the strength of earlier pins, if a
// trial of those of today proves that the server is another one.
func (m *member) disown(e *edition, dial dialFunc, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e == m.edition && m.pool.Stats().Rotation.Pending && e.disowns(m.trusted, driver.AsError(err)) {
		m.health = health{}
		m.pool.Replace(m.dialer(e, dial))
	}
}

func (m *member) describe(e *edition, info driver.Info) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusted = e.trust
	m.version = info.ServerVersion
	m.handshakes += info.Handshake
}

func (m *member) count(reason driver.Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals == nil {
		m.refusals = map[driver.Reason]uint64{}
	}
	m.refusals[reason]++
}

// observe moves the health on. The limits follow it: a failed target is probed
// more often, and dialed whether or not a connection is needed.
func (m *member) observe(e *edition, event healthEvent, err *driver.Error) {
	if m.moveHealth(e, event, err) {
		m.set.changed(m.target)
	}
}

func (m *member) moveHealth(e *edition, event healthEvent, err *driver.Error) (turned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.concerns(e, err) {
		return false
	}
	before := m.health.state
	m.health = m.health.next(event, err, m.thresholds())
	if m.health.state == before {
		return false
	}
	m.pool.SetLimits(m.limits())
	return true
}

func (m *member) thresholds() thresholds {
	return thresholds{max(1, m.policy.FailureThreshold), max(1, m.policy.SuccessThreshold)}
}

// concerns reports whether what was seen of an edition says something of the
// health: not if it was another host's, and not if new credentials failed on
// trial, while connections made with the old ones serve. The caller holds mu.
func (m *member) concerns(e *edition, err *driver.Error) bool {
	if e.identity != m.edition.identity {
		return false
	}
	return err == nil || e != m.edition || !m.pool.Stats().Rotation.Pending
}

// limits are the policy's as far as the health allows. The caller holds mu.
func (m *member) limits() connpool.Limits {
	limits := m.policy.Limits
	limits.DialTimeout = waitForever
	if m.health.state == HealthDown {
		limits.Recover = true
		if limits.ProbePeriod <= 0 || limits.ProbePeriod > recoveryProbePeriod {
			limits.ProbePeriod = recoveryProbePeriod
		}
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
func (m *member) reach(next *edition, dial dialFunc, elsewhere bool) {
	own := *next
	m.mu.Lock()
	defer m.mu.Unlock()
	m.edition = &own
	if elsewhere || m.health.state == HealthDown {
		m.health = health{}
	}
	if elsewhere {
		m.version, m.fitness = "", unexamined
		m.pool.Replace(m.dialer(&own, dial))
		return
	}
	m.pool.Rotate(m.dialer(&own, dial))
}

// apply takes a new policy.
func (m *member) apply(policy Policy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	paused := policy.Paused && !m.policy.Paused
	if !slices.Equal(policy.ProbeCommand, m.policy.ProbeCommand) {
		m.fitness = unexamined
	}
	m.policy = policy
	m.pool.SetLimits(m.limits())
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
	return connpool.Verdict{Park: classified.Reason.Permanent(), RetryAfter: classified.RetryAfter}
}
