package poolset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset/routing"
	"github.com/connpool/connpool/internal/reach"
	"github.com/connpool/connpool/internal/reach/refusals"
)

// member is one pool's connections to one target.
type member struct {
	target Ref
	owner  Ref                    // the pool
	kind   atomic.Pointer[string] // the target's protocol
	meter  Meter                  // nil if nothing is measured
	pool   *reach.Pool
	// notify tells subscribers that the target has changed.
	notify func()
	// turn is the member's place among those of its pool, for requests that name no target.
	turn *routing.Entry[*member]

	// mu guards the rest. While it is held, the methods of the pool may be called
	// but for Follow and ServerVersion.
	mu     sync.Mutex
	policy Policy
	// health is what dials and the protocol's own probes say of the target,
	// commandHealth what the pool's health command does.
	health        health
	commandHealth health
	// handshakes is the time that successful dials took, without their waits for
	// the breaker, the jump host and the budget.
	handshakes time.Duration
	// dialFailures counts failed dials by reason.
	dialFailures map[driver.Reason]uint64
}

func newMember(a *applier, of *target, pool Pool, dialer *reach.Dialer) *member {
	target := of.Ref
	m := &member{
		target: target, owner: pool.Ref, meter: a.meter, notify: func() { a.notify(target) },
		policy: pool.Policy, commandHealth: unexamined, dialFailures: map[driver.Reason]uint64{},
	}
	m.kind.Store(new(of.kind))
	m.turn = a.roster.table(pool.UID).New(m, target.Name)
	// Dials begin at once and end by taking the lock, so they see m complete.
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool = reach.NewPool(a.background, reach.PoolOptions{
		Dialer: dialer, Limits: pool.limitsFor(HealthUnknown), Declared: pool.Declared,
		Probe: m.probe, Dropped: m.dropped, Dialed: m.dialed, Changed: m.changed, Notify: m.notify,
		Loaded: m.turn.SetLoad,
	})
	return m
}

// apply takes a new policy.
func (m *member) apply(policy Policy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	paused := policy.Paused && !m.policy.Paused
	if !slices.Equal(policy.ProbeCommand, m.policy.ProbeCommand) {
		m.commandHealth = unexamined
		m.reroute()
	}
	m.policy = policy
	m.pool.SetLimits(policy.limitsFor(m.health.state))
	if paused {
		m.pool.RecycleAll()
	}
}

// changed forgets what is known of connections that no longer count.
func (m *member) changed(how reach.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if how != reach.Rotated || m.health.state == HealthDown {
		m.health = health{}
	}
	if how == reach.Moved {
		m.commandHealth = unexamined
	}
	m.reroute()
}

// dialed takes the result of a dial into account.
func (m *member) dialed(by *reach.Dialer, made *reach.Conn, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.handshakes += made.Info().Handshake
		if m.meter != nil {
			m.meter.Dialed(m.owner, *m.kind.Load(), made.Info().Handshake, made.Dialing.Passages())
		}
		m.recordHealth(by, dialSucceeded, nil)
		return
	}
	failure := driver.AsError(err)
	if !refusals.IsShared(err) {
		m.dialFailures[failure.Reason]++
	}
	if reach.SessionRefused(err) && m.pool.Stats().Warm() > 0 {
		return // there are too many sessions already, which do serve
	}
	m.recordHealth(by, dialFailed, failure)
}

// dropped takes into account that a connection was lost soon after it was made.
func (m *member) dropped(c *reach.Conn, cause error) {
	err := *driver.AsError(cause)
	err.Message = "connections are dropped soon after they are made: " + err.Message
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recordHealth(c.Dialer, connDropped, &err)
}

// probe asks a connection for a proof that it serves. The protocol's own probe
// alone says whether the connection is good. The health command, which follows it
// in its own period, says whether the target is, and closes nothing.
func (m *member) probe(ctx context.Context, c *reach.Conn) error {
	err := c.Probe(ctx)
	switch {
	case reach.SessionRefused(err), m.isHeldUp(err):
		return nil // nothing was learned of the target
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return err // the pool has given up on it
	}
	m.probed(c, err)
	if err == nil {
		m.examine(ctx, c)
	}
	return err
}

// isHeldUp reports whether err is a late answer of a target that is busy with the pool's
// own uses: at least half of the slots are leased. The keepalive, if there is one, tells
// whether such a connection lives.
func (m *member) isHeldUp(err error) bool {
	if err == nil || driver.AsError(err).Reason != driver.Timeout {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.pool.Stats()
	slots := stats.Warm() * max(1, cmp.Or(stats.Cap, m.policy.LeasesPerConn))
	return m.policy.KeepaliveInterval > 0 && 2*stats.Leases >= slots
}

func (m *member) probed(c *reach.Conn, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil:
		m.recordHealth(c.Dialer, probeFailed, driver.AsError(err))
	case time.Since(c.Made) < connpool.Steady:
		m.recordHealth(c.Dialer, probeSucceeded, nil)
	default:
		m.recordHealth(c.Dialer, steadySucceeded, nil)
	}
}

// examine runs the health command if it is due. It takes a slot like any other
// command, so it is put off if all slots are leased.
func (m *member) examine(ctx context.Context, c *reach.Conn) {
	m.mu.Lock()
	command := m.policy.commandDue(c.Examined)
	m.mu.Unlock()
	if len(command) == 0 {
		return
	}
	m.pool.Hold(c, func() (leftover <-chan struct{}) {
		c.Examined = time.Now()
		failure := runHealthCommand(ctx, c.Conn, command)
		if classified, ok := driver.Classified(failure); ok {
			leftover = classified.Leftover
		}
		if c.Context().Err() != nil || errors.Is(ctx.Err(), context.Canceled) || reach.SessionRefused(failure) ||
			m.isHeldUp(failure) {
			return leftover // nothing was learned of the target
		}
		m.recordCommandHealth(c.Dialer, failure)
		return leftover
	})
}

// recordHealth moves the health on, and the limits with it. The caller holds mu.
func (m *member) recordHealth(by *reach.Dialer, event healthEvent, err *driver.Error) {
	if !m.concerns(by, err) {
		return
	}
	before := m.health.state
	m.health = m.health.next(event, err, m.policy.thresholds())
	if m.health.state != before {
		m.reroute()
		m.pool.SetLimits(m.policy.limitsFor(m.health.state))
		m.notify()
	}
}

// concerns reports whether what a dialer or its connections met with says something
// of the health: not if the dialer leads to another host, and not if new credentials
// failed on trial while connections made with the old ones serve. The caller holds
// mu.
func (m *member) concerns(by *reach.Dialer, err *driver.Error) bool {
	newest := m.pool.Dialer()
	if by.Version().Identity() != newest.Version().Identity() {
		return false
	}
	return err == nil || by != newest || !m.pool.Stats().Rotation.Pending
}

// recordCommandHealth moves the health by the health command on; failure is nil if
// the command succeeded.
func (m *member) recordCommandHealth(by *reach.Dialer, failure error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.concerns(by, nil) || len(m.policy.ProbeCommand) == 0 {
		return
	}
	before := m.commandHealth.state
	if failure == nil {
		m.commandHealth = m.commandHealth.next(probeSucceeded, nil, m.policy.thresholds())
	} else {
		m.commandHealth = m.commandHealth.next(probeFailed, healthCommandError(failure), m.policy.thresholds())
	}
	if m.commandHealth.state != before {
		m.reroute()
		m.notify()
	}
}

// overall is the health as others see it: a target must be reachable, and its health
// command must succeed. The caller holds mu.
func (m *member) overall() health {
	if m.health.state != HealthDown && m.commandHealth.state == HealthDown {
		return m.commandHealth
	}
	return m.health
}

// reroute gives requests that name no target to others while the member is Down. The
// caller holds mu.
func (m *member) reroute() { m.turn.SetDown(m.overall().state == HealthDown) }

// observation returns what is true of the member; kind is the target's protocol.
func (m *member) observation(kind string) PoolObservation {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.pool.Stats()
	stats.Dials.Time = m.handshakes
	overall := m.overall()
	o := PoolObservation{
		Pool: m.owner, Target: m.target, Type: kind,
		MinWarm: m.policy.limitsFor(m.health.state).MinWarm, Paused: m.policy.Paused,
		Stats: stats, Health: overall.state, DialFailures: maps.Clone(m.dialFailures),
	}
	if overall.state == HealthDown {
		o.Err = overall.err
	}
	return o
}

// appendConnections adds the connections that are not being closed.
func (m *member) appendConnections(all []Connection, kind string) []Connection {
	for _, c := range m.pool.Conns() {
		if c.State == connpool.Closing {
			continue
		}
		all = append(all, Connection{
			Pool: m.owner, Target: m.target, Type: kind, ID: c.ID, State: c.State,
			Created: c.Created, LastUsed: c.LastUsed, Uses: c.Uses, Leases: c.Leases,
			Info: c.Conn.Info(),
		})
	}
	return all
}

// runHealthCommand runs a health command; an exit code other than 0 is an error, which
// repeats what was printed: a login without a right to run anything says so there.
// The command names no container or pod, so only hosts can run it.
func runHealthCommand(ctx context.Context, conn driver.Conn, command []string) error {
	execer, ok := conn.(driver.Execer)
	if !ok {
		return errors.New("the target runs no commands; remove health.command from the pool")
	}
	printed := new(printed)
	status, err := execer.Exec(ctx, driver.Command{Argv: command}, driver.Streams{Stdout: printed, Stderr: printed})
	if err == nil && status.Code != 0 {
		return fmt.Errorf("health.command ended with exit code %d instead of 0; run it on the target to see why%s", status.Code, printed)
	}
	return err
}

// printed keeps the beginning of what a command prints.
type printed struct {
	mu   sync.Mutex // two streams are written
	text strings.Builder
}

const maxPrinted = 128

// Write implements io.Writer.
func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(text[:min(len(text), maxPrinted-p.text.Len())])
	return len(text), nil
}

// String is the end of a message, made safe.
func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if words := driver.Sanitize(p.text.String()); words != "" {
		return ". It printed: " + words
	}
	return ""
}

// healthCommandError classifies the error of a health command on a target that can
// be reached.
func healthCommandError(failure error) *driver.Error {
	err := &driver.Error{Reason: driver.ProbeFailed, Stage: driver.StageRun, Err: failure, Message: driver.Sanitize(failure.Error())}
	classified, ok := driver.Classified(failure)
	switch {
	case ok && !classified.Started && classified.Reason == driver.ProtocolError:
		err.Message = "health.command runs on ssh targets only, so remove it from pools of other types: " + classified.Message
	case ok:
		err.Message = "health.command did not run to its end: " + classified.Message
	}
	return err
}
