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
	// steadySucceeded is a probe that succeeds on a connection that has lasted,
	// connDropped is the loss of one that has not.
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
// Its hysteresis is one-sided on purpose: the very first verdict counts at once,
// because somebody is waiting for it, and so does a failure that will not go
// away by itself. A target that was Up again only to fail soon must do better
// each time: it needs twice the successes, or it would turn for ever.
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
	// dialable is the result of the newest dial. A living connection proves
	// nothing about the next dial, so probes do not make up for a failed one.
	dialable bool
}

const (
	// lasting is how many successes in a row make a recovery last.
	lasting = 3
	// maxRelapses bounds how much harder a recovery becomes.
	maxRelapses = 4
	// longPause is a time without dials for which one failure has to stand.
	longPause = 10 * time.Second
)

func (h health) next(event healthEvent, err *driver.Error, t thresholds) health {
	switch event {
	case dialSucceeded:
		h.dialable, h.dialFailures = true, 0
		h.successes = max(h.successes, 1)
	case dialFailed:
		h.dialable, h.successes = false, 0
		h.dialFailures++
		if h.state != HealthUp || err.Reason.Permanent() || err.RetryAfter >= longPause || h.dialFailures >= t.failures {
			h.state, h.err = HealthDown, err
		}
		return h
	case probeSucceeded:
		h.probeFailures = 0
		if h.dialable {
			h.successes++
		}
	case steadySucceeded:
		h.drops = 0
		return h.next(probeSucceeded, nil, t)
	case probeFailed:
		h.successes = 0
		h.probeFailures++
		if err.Reason.Permanent() || h.probeFailures >= t.failures {
			h.state, h.err = HealthDown, err
		}
		return h
	case connDropped:
		h.successes = 0
		h.drops++
		if h.drops >= t.failures {
			h.state, h.err = HealthDown, err
		}
		return h
	}
	return h.succeeded(t)
}

// succeeded follows a success.
func (h health) succeeded(t thresholds) health {
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
