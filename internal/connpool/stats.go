package connpool

import "time"

// State is where a connection is in its life. Connections being dialled are
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
	// Warm connections are idle, InUse ones carry leases, Draining ones take
	// no new lease or are being closed.
	Warm, InUse, Dialing, Draining int
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
	// Dial is the current streak of dial failures.
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

// Failure is a streak of consecutive failures; zero when the last try succeeded.
type Failure struct {
	// Failures is the length of the streak.
	Failures int
	// Err is the newest failure.
	Err error
	// Since is the first failure of the streak, Next the earliest next try.
	Since, Next time.Time
	// Parked reports that trying was stopped until Next rather than backed off.
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
	// Pending reports that the old credentials still serve.
	Pending bool
	// Failure says why the new ones could not be proved so far.
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
	// Abandoned dials ended after nobody wanted their generation any more.
	Succeeded, Failed, Abandoned uint64
	// Time is the sum over successful dials, without waits for the budget.
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
	// Uses counts ended leases, Leases those that run.
	Uses   int64
	Leases int
	// Generation counts the dial functions the pool has had, from 1.
	Generation int
}

// Stats returns a snapshot.
func (p *Pool[C]) Stats() Stats { panic("not built yet") }

// Conns describes every connection, oldest first.
func (p *Pool[C]) Conns() []ConnStats[C] { panic("not built yet") }
