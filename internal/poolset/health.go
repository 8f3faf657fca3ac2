package poolset

import (
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// HealthState says whether a target can be dialed and serves.
type HealthState int

const (
	// HealthUnknown holds until the first dial has ended.
	HealthUnknown HealthState = iota
	// HealthUp holds while dials and probes succeed.
	HealthUp
	// HealthDown holds after enough failures, until enough successes.
	HealthDown
)

// healthEvent is one observation of a target.
type healthEvent int

const (
	dialSucceeded healthEvent = iota
	dialFailed
	probeSucceeded
	probeFailed
	// steadySucceeded is a probe that succeeds on a connection that has lived for
	// connpool.Steady, connDropped is the loss of a younger one.
	steadySucceeded
	connDropped
)

// thresholds damp the health of a target.
type thresholds struct {
	failures  int // consecutive failures that make it Down
	successes int // consecutive successes that make it Up again
}

// health is what one pool knows of one target. It is a value: next returns the
// state that follows.
//
// Its hysteresis is one-sided on purpose: the first result counts at once, because
// a caller waits for it, and so does a failure that will not go away by itself. A
// target that was Up again only to fail soon must do better each time: it needs
// twice the successes, or it would turn for ever.
type health struct {
	state HealthState
	// err is the failure that made or keeps the state Down.
	err *driver.Error

	dialFailures  int
	probeFailures int
	successes     int
	// drops counts connections lost soon after they were made; only one that
	// lasts ends the streak, because to dial such a target does succeed.
	drops int
	// relapses counts the recoveries that have not lasted yet.
	relapses int
	// dialable reports whether the newest dial succeeded. A live connection proves
	// nothing about the next dial, so probes do not make up for a failed one.
	dialable bool
}

const (
	// lasting is how many successes in a row make a recovery last.
	lasting = 3
	// maxRelapses bounds how much harder a recovery becomes.
	maxRelapses = 4
	// longPause is a RetryAfter that makes a target Down at once, because no dial
	// follows soon that could confirm the failure.
	longPause = 10 * time.Second
	// recoveryProbePeriod is how often the connections of a target that is Down are
	// probed, so that it is known soon whether it is good again.
	recoveryProbePeriod = time.Second
)

// unexamined is the health by the health command before its first run. It needs no
// dial to become good: the command only runs on live connections.
var unexamined = health{dialable: true}

// next returns the health after an event. err is the failure of those events that
// are one.
func (h health) next(event healthEvent, err *driver.Error, t thresholds) health {
	switch event {
	case dialSucceeded:
		h.dialable, h.dialFailures = true, 0
		h.successes = max(h.successes, 1)
		return h.afterSuccess(t)
	case probeSucceeded, steadySucceeded:
		if event == steadySucceeded {
			h.drops = 0
		}
		h.probeFailures = 0
		if h.dialable {
			h.successes++
		}
		return h.afterSuccess(t)
	case dialFailed:
		return h.afterDialFailure(err, t)
	case probeFailed:
		h.probeFailures++
		return h.afterFailure(err, err.Reason.Permanent() || h.probeFailures >= t.failures)
	case connDropped:
		h.drops++
		return h.afterFailure(err, h.drops >= t.failures)
	}
	return h
}

// afterDialFailure follows a dial that failed.
func (h health) afterDialFailure(err *driver.Error, t thresholds) health {
	next := h.afterFailure(err, h.state != HealthUp || err.Reason.Permanent() || err.RetryAfter >= longPause ||
		h.dialFailures+1 >= t.failures)
	next.dialable = false
	next.dialFailures++
	return next
}

// afterFailure follows a failure, which may be decisive.
func (h health) afterFailure(err *driver.Error, decisive bool) health {
	h.successes = 0
	if decisive {
		h.state, h.err = HealthDown, err
	}
	return h
}

// afterSuccess follows a success.
func (h health) afterSuccess(t thresholds) health {
	switch {
	case h.state == HealthUnknown:
		return health{state: HealthUp, dialable: h.dialable}
	case h.state == HealthDown && h.drops >= t.failures:
		h.successes = 0
	case h.state == HealthDown && h.dialable && h.successes >= t.successes<<h.relapses:
		return health{state: HealthUp, dialable: true, relapses: min(h.relapses+1, maxRelapses)}
	case h.state == HealthUp && h.successes >= lasting:
		h.relapses = 0
	}
	return h
}
