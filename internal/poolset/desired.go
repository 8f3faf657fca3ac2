package poolset

import (
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/reach"
)

// The words of package reach that describe a target, for those who use a Set.
type (
	// Ref names an object; its UID identifies it.
	Ref = reach.Ref
	// Access is how to reach a target.
	Access = reach.Access
	// JumpHost is a target on the way to another one.
	JumpHost = reach.JumpHost
	// PreparingError means that the access of a target is being prepared.
	PreparingError = reach.PreparingError
)

// Target is what should be true of one target: how to reach it, and the pools
// that want connections to it.
type Target struct {
	Ref
	Access
	// Type names the protocol, for statistics.
	Type string
	// Pools that select the target. Without any, nothing is dialed.
	Pools []Pool
}

// Pool is one pool's wish for a target.
type Pool struct {
	Ref
	Policy
	// Declared is when the wish was made. A new one goes before older ones.
	Declared time.Time
}

// Policy is how a pool keeps connections good.
type Policy struct {
	// Limits of size, age and waiting; DialTimeout is ignored.
	connpool.Limits
	// Keepalive of live connections, and the time an answer may take.
	KeepaliveInterval, KeepaliveTimeout time.Duration
	// FailureThreshold is how many failures in a row make a target bad, and
	// SuccessThreshold how many successes in a row make it good again.
	FailureThreshold, SuccessThreshold int
	// ProbeCommand is run after the protocol's own probe, every ProbePeriod, on
	// connections with a free slot; nil means none. It decides on the health of the
	// target and never closes a connection.
	ProbeCommand []string
}

func (p Policy) keepalive() reach.Keepalive {
	return reach.Keepalive{Interval: p.KeepaliveInterval, Timeout: p.KeepaliveTimeout}
}

func (p Policy) thresholds() thresholds {
	return thresholds{max(1, p.FailureThreshold), max(1, p.SuccessThreshold)}
}

// limitsFor are the limits of a target that is or is not Down. One that is Down is
// probed more often, and dialed whether or not a connection is needed.
func (p Policy) limitsFor(state HealthState) connpool.Limits {
	limits := p.Limits
	if state == HealthDown {
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

// commandDue returns the health command if it is due on a connection that was
// examined at a time; nil if not. Probes come up to a tenth of their period early.
func (p Policy) commandDue(examined time.Time) []string {
	if p.ProbePeriod <= 0 || time.Since(examined) < p.ProbePeriod-p.ProbePeriod/10 {
		return nil
	}
	return p.ProbeCommand
}
