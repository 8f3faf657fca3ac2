package connpool

import "time"

// State is where a connection is in its life. Connections being dialed are
// only counted: they have no ID yet.
type State uint8

const (
	// Idle connections serve and carry no lease.
	Idle State = iota
	// Leased connections serve and carry leases.
	Leased
	// Draining connections take no new lease and close after the last one.
	Draining
	// Closing connections are being closed.
	Closing
)

// String returns the lower-case word.
func (s State) String() string { return [...]string{"idle", "leased", "draining", "closing"}[s] }

// Stats is a snapshot of a pool.
type Stats struct {
	// Idle connections serve and carry no lease, InUse ones serve and carry leases,
	// Draining ones take no new lease or are being closed.
	Idle, InUse, Dialing, Draining int
	// Leases are out, Pending callers wait.
	Leases, Pending int
	// Uses counts ended leases, also of connections that are gone.
	Uses int64
	// Oldest is when the oldest serving connection was made; zero when none.
	Oldest time.Time
	// LastUsed is when a lease was last given back; zero when never.
	LastUsed time.Time
	// Cap is the learned bound on leases for each connection; 0 when none.
	Cap int
	// Dial is the current streak of dial failures. Only a dial that succeeds
	// ends it, so it stays while nothing is left to dial for.
	Dial Failure
	// Probe is the health as probes see it.
	Probe ProbeHealth
	// Rotation is the state of new credentials.
	Rotation Rotation
	// Acquired counts leases by How.
	Acquired [3]AcquireCount
	// Dials and Probes count ended ones.
	Dials  DialCount
	Probes ProbeCount
}

// Warm is the number of connections that can serve: idle or in use.
func (s Stats) Warm() int { return s.Idle + s.InUse }

// Count adds the counters of other stats: of leases, dials and probes.
func (s *Stats) Count(other *Stats) {
	s.Uses += other.Uses
	for how := range other.Acquired {
		s.Acquired[how].Count += other.Acquired[how].Count
		s.Acquired[how].Wait += other.Acquired[how].Wait
	}
	s.Dials.Succeeded += other.Dials.Succeeded
	s.Dials.Failed += other.Dials.Failed
	s.Dials.Abandoned += other.Dials.Abandoned
	s.Dials.Time += other.Dials.Time
	s.Probes.Succeeded += other.Probes.Succeeded
	s.Probes.Failed += other.Probes.Failed
}

// Failure is a streak of consecutive failures; zero when the last try succeeded.
type Failure struct {
	// Failures is the length of the streak.
	Failures int
	// Err is the newest failure.
	Err error
	// Since is the first failure of the streak, Next the earliest next try.
	Since, Next time.Time
	// Parked reports whether dialing was stopped until Next rather than backed off.
	Parked bool
}

// ProbeHealth counts consecutive probe results over all connections.
type ProbeHealth struct {
	// Failures and Successes are streaks: one of them is 0.
	Failures, Successes int
	// Err is the newest failure of the streak; nil after a success.
	Err error
}

// Rotation is the state of new credentials given to Rotate.
type Rotation struct {
	// Pending reports whether the new credentials are still on trial.
	Pending bool
	// Failure says why the new ones could not be proven so far.
	Failure
}

// AcquireCount counts leases got in one way.
type AcquireCount struct {
	Count uint64
	// Wait is the sum of the waits.
	Wait time.Duration
}

// DialCount counts dials by result.
type DialCount struct {
	// Abandoned dials ended after they were given up.
	Succeeded, Failed, Abandoned uint64
	// Time is the sum of the durations of successful dials.
	Time time.Duration
}

// ProbeCount counts probes by result.
type ProbeCount struct{ Succeeded, Failed uint64 }

// ConnStats describes one connection.
type ConnStats[C Conn] struct {
	// ID is unique in the pool and never used again.
	ID uint64
	// Conn is the connection itself.
	Conn  C
	State State
	// Created and LastUsed are equal before the first use.
	Created, LastUsed time.Time
	// Uses counts ended leases, Leases those that run, Leftovers those left behind.
	Uses              int64
	Leases, Leftovers int
	// Generation counts the dial functions the pool has had, from 1.
	Generation int
}

// tally is what the pool counts.
type tally struct {
	leases   int
	uses     int64
	lastUsed instant
	acquired [3]AcquireCount
	dials    DialCount
	probes   ProbeCount
	probe    ProbeHealth
}

// note adds a probe's result and reports whether the streak of failures reached
// its threshold just now, or ended after it.
func (h *ProbeHealth) note(err error, threshold int) (crossed bool) {
	if err != nil {
		h.Failures++
		h.Successes, h.Err = 0, err
		return h.Failures == threshold
	}
	crossed = h.Failures >= threshold
	h.Failures, h.Err = 0, nil
	h.Successes++
	return crossed
}

// Stats returns a snapshot.
func (p *Pool[C]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.s
	stats := Stats{
		Dialing:  s.dialing,
		Draining: s.count[draining] + s.count[closing],
		Leases:   s.tally.leases,
		Pending:  s.waiting,
		Uses:     s.tally.uses,
		LastUsed: p.at(s.tally.lastUsed),
		Cap:      s.gen.learnedCap,
		Dial:     p.failure(&s.gen.streak),
		Probe:    s.tally.probe,
		Acquired: s.tally.acquired,
		Dials:    s.tally.dials,
		Probes:   s.tally.probes,
	}
	if s.next != nil {
		stats.Rotation = Rotation{Pending: true, Failure: p.failure(&s.next.streak)}
	}
	for _, c := range s.conns {
		stats.add(c.export(), p.at(c.created))
	}
	return stats
}

// add counts a connection that serves. Connections come oldest first.
func (s *Stats) add(state State, created time.Time) {
	switch state {
	case Idle:
		s.Idle++
	case Leased:
		s.InUse++
	default:
		return
	}
	if s.Oldest.IsZero() {
		s.Oldest = created
	}
}

// Load is how much a pool is used, for those who choose between pools.
type Load struct {
	// Uses counts the leases and the callers who wait for one.
	Uses int
	// Warm reports whether there is a connection that can be leased.
	Warm bool
}

// reportLoad tells of the load if it has changed.
func (s *state[C]) reportLoad() {
	load := Load{Uses: s.tally.leases + s.waiting, Warm: s.serving() > 0}
	if load != s.reported {
		s.reported = load
		s.pool.loaded(load)
	}
}

// failure exports a streak of failures.
func (p *Pool[C]) failure(t *failureStreak) Failure {
	if t.failures == 0 {
		return Failure{}
	}
	return Failure{
		Failures: t.failures,
		Err:      t.err,
		Since:    p.at(t.since),
		Next:     p.at(t.next),
		Parked:   t.parked && t.waits(p.now()),
	}
}

// export is the connection's state as others see it.
func (c *conn[C]) export() State {
	switch {
	case c.state >= closing:
		return Closing
	case c.state == draining:
		return Draining
	case c.leased > 0:
		return Leased
	default:
		return Idle
	}
}

// Conns describes every connection, oldest first.
func (p *Pool[C]) Conns() []ConnStats[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := make([]ConnStats[C], 0, len(p.s.conns))
	for _, c := range p.s.conns {
		stats = append(stats, ConnStats[C]{
			ID:         c.id,
			Conn:       c.conn,
			State:      c.export(),
			Created:    p.at(c.created),
			LastUsed:   p.at(c.lastUsed),
			Uses:       c.uses,
			Leases:     c.leased,
			Leftovers:  c.leftovers,
			Generation: c.gen.number,
		})
	}
	return stats
}
