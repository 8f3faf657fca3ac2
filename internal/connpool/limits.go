package connpool

import "time"

// Limits bound a pool and say how its connections are kept. A zero MaxAge,
// MaxIdle, MaxUses or ProbePeriod means off; other zeros mean the default
// that the field names, or just that.
type Limits struct {
	// MinWarm is how many connections are kept, leased or not. At most Max.
	MinWarm int
	// Max bounds the connections that are to stay, are being dialed or are being
	// closed; default 1. Those on their way out, which wait for a successor or for
	// their last lease, come on top: while they drain there may be up to 2*Max in
	// all, and one dial more that tries new credentials.
	Max int
	// LeasesPerConn bounds the leases that share a connection; default 1.
	LeasesPerConn int
	// MaxPending bounds the callers that wait in Acquire, also those that wait
	// for a dial; with 0 no caller waits. A caller that may not wait fails with
	// ErrQueueFull, but the connection that it lacked is dialed if Max allows, so
	// that a pool without warm connections serves the next caller.
	MaxPending int
	// AcquireTimeout bounds the wait in Acquire; default 10 s.
	AcquireTimeout time.Duration
	// DialTimeout bounds one dial; default 10 s.
	DialTimeout time.Duration
	// MaxAge replaces a connection before it is this old: up to 10 % earlier,
	// so that connections of one age do not leave together.
	MaxAge time.Duration
	// MaxIdle closes a connection that was not used for this long, but never
	// goes below MinWarm.
	MaxIdle time.Duration
	// MaxUses replaces a connection after this many leases.
	MaxUses int64
	// DrainTimeout bounds how long leases may still run after Drain or
	// Replace; 0 cuts them at once.
	DrainTimeout time.Duration
	// ProbePeriod is how often each connection is probed.
	ProbePeriod time.Duration
	// ProbeTimeout bounds one probe; default 5 s.
	ProbeTimeout time.Duration
	// ProbeFailures is how many consecutive failed probes close a connection;
	// default 3.
	ProbeFailures int
	// Recover keeps dialing, with backoff, for as long as the last dial failed
	// or nothing serves, whether or not a connection is needed: only a dial can
	// tell that the target is good again. What is more than needed idles out.
	Recover bool
	// Paused refuses new leases, dials nothing and gives up the dials that run;
	// running leases finish, and warm connections stay.
	Paused bool
}

// withDefaults replaces zeros by defaults where a zero means the default.
func (l Limits) withDefaults() Limits {
	orElse(&l.Max, 1)
	orElse(&l.LeasesPerConn, 1)
	orElse(&l.AcquireTimeout, 10*time.Second)
	orElse(&l.DialTimeout, 10*time.Second)
	orElse(&l.ProbeTimeout, 5*time.Second)
	orElse(&l.ProbeFailures, 3)
	l.MinWarm = min(l.MinWarm, l.Max)
	return l
}

func orElse[T int | time.Duration](value *T, fallback T) {
	if *value <= 0 {
		*value = fallback
	}
}
