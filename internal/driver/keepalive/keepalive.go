// Package keepalive asks a server for signs of life and notices when it is dead.
//
//	monitor := keepalive.New(keepalive.Options[struct{}]{
//		Address: address, Interval: interval, Timeout: timeout,
//		Ask: roundTrip, Heard: bytesRead, Dead: end,
//	})
//	monitor.Start()
//	defer monitor.Stop()
//
// Everything that wants to know whether the server lives shares one round trip: a
// keepalive, a probe, a suspicion. An answer to any of them puts the next keepalive off. So a server that does not answer costs one
// request and one goroutine, however often it is asked. A keepalive runs on a
// timer, so an idle connection needs no goroutine for it.
//
// A round trip that takes too long does not mean death while other bytes arrive:
// a slow path that is full is not a dead one. The price is that a server that
// sends without answering is given up later, after a few timeouts.
package keepalive

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// maxTimeouts is how many timeouts in a row a keepalive may take in all, while
// other bytes keep arriving.
const maxTimeouts = 5

// beat is the grid on which the keepalives of all connections fall, so that thousands of
// them wake the process a few times a second, and not at each.
const beat = 250 * time.Millisecond

// Options say how a Monitor asks and whom it tells. A is what an answer holds.
type Options[A any] struct {
	// Address names the server in errors.
	Address string
	// Interval is the time from an answer to the next keepalive; 0 means never.
	Interval time.Duration
	// Timeout bounds the answer to a keepalive.
	Timeout time.Duration
	// SuspectTimeout bounds the answer to what Suspect asks.
	SuspectTimeout time.Duration
	// MinGap is the least time between an answer and what Suspect asks.
	MinGap time.Duration

	// Ask makes one round trip. It must return when the connection has ended.
	Ask func() (A, error)
	// Heard counts signs of life of any kind.
	Heard func() int64
	// Answered is told what came of each round trip before any caller is; may be
	// nil.
	Answered func(Result[A])
	// Alive is called after each keepalive that was answered; may be nil.
	Alive func()
	// Dead is called when an answer did not come in time. It is nil where Ask bounds
	// itself; then no other timeout applies.
	Dead func()
}

// Result is what came of a round trip.
type Result[A any] struct {
	Answer A
	// Err says why there was no answer.
	Err error
}

// Monitor watches one connection. It is safe for concurrent use.
type Monitor[A any] struct {
	options   Options[A]
	roundTrip atomic.Int64

	mu        sync.Mutex // guards what follows
	pending   *trip[A]
	answered  time.Time // when the last round trip ended
	suspected bool      // a round trip is to follow
	timer     *time.Timer
	stopped   bool
}

type trip[A any] struct {
	done   chan struct{}
	result Result[A] // may be read when done is closed
}

// New returns a Monitor that asks only what Probe and Suspect want to know, until
// it is started.
func New[A any](options Options[A]) *Monitor[A] { return &Monitor[A]{options: options} }

// Start begins the keepalives, unless the Monitor has been stopped.
func (m *Monitor[A]) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.schedule()
}

// schedule sets when the next keepalive is due, if there are any. The caller holds mu.
func (m *Monitor[A]) schedule() {
	switch {
	case m.options.Interval <= 0 || m.stopped:
	case m.timer == nil:
		m.timer = time.AfterFunc(m.pause(), m.keepalive)
	default:
		m.timer.Reset(m.pause())
	}
}

// pause is the time until the next keepalive: the interval, ended early by the last beat
// in it unless it is short.
func (m *Monitor[A]) pause() time.Duration {
	if m.options.Interval < 16*beat {
		return m.options.Interval
	}
	now := time.Now()
	return now.Add(m.options.Interval).Truncate(beat).Sub(now)
}

// Stop ends the keepalives. It does not wait for a round trip under way.
func (m *Monitor[A]) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

// RoundTrip is the duration of the last round trip; 0 before the first.
func (m *Monitor[A]) RoundTrip() time.Duration { return time.Duration(m.roundTrip.Load()) }

// Measured sets the duration of a round trip that was made by other means.
func (m *Monitor[A]) Measured(roundTrip time.Duration) { m.roundTrip.Store(int64(roundTrip)) }

// Probe returns what came of one round trip. The error is a *driver.Error that
// belongs to the caller: the context ended first.
func (m *Monitor[A]) Probe(ctx context.Context) (Result[A], error) {
	t := m.join()
	select {
	case <-t.done:
		return t.result, nil
	case <-ctx.Done():
		return Result[A]{}, &driver.Error{
			Reason: driver.Timeout, Stage: driver.StageKeepalive, Err: ctx.Err(),
			Message: m.options.Address + " did not answer a probe in time; check that it is not overloaded",
		}
	}
}

// Suspect asks for a sign of life soon, because something happened that a live
// server is not expected to do.
func (m *Monitor[A]) Suspect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.suspected || m.stopped {
		return
	}
	m.suspected = true
	time.AfterFunc(m.options.MinGap-time.Since(m.answered), m.examine)
}

func (m *Monitor[A]) examine() {
	m.mu.Lock()
	m.suspected = false
	stopped := m.stopped
	m.mu.Unlock()
	if stopped {
		return
	}
	if t := m.join(); m.options.Dead != nil && !t.endsWithin(m.options.SuspectTimeout) {
		m.options.Dead()
	}
}

func (m *Monitor[A]) keepalive() {
	if !m.await(m.join()) {
		m.options.Dead()
		return
	}
	if m.options.Alive != nil {
		m.options.Alive()
	}
	m.Start()
}

// await reports whether the round trip ended in time.
func (m *Monitor[A]) await(t *trip[A]) bool {
	if m.options.Dead == nil {
		<-t.done
		return true
	}
	for range maxTimeouts {
		heard := m.options.Heard()
		if t.endsWithin(m.options.Timeout) {
			return true
		}
		if m.options.Heard() == heard {
			return false
		}
	}
	return false
}

func (m *Monitor[A]) join() *trip[A] {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		m.pending = &trip[A]{done: make(chan struct{})}
		go m.ask(m.pending)
	}
	return m.pending
}

func (m *Monitor[A]) ask(t *trip[A]) {
	begin := time.Now()
	t.result.Answer, t.result.Err = m.options.Ask()
	if t.result.Err == nil {
		m.Measured(time.Since(begin))
	}
	if m.options.Answered != nil {
		m.options.Answered(t.result)
	}
	m.mu.Lock()
	m.pending, m.answered = nil, time.Now()
	if m.timer != nil && m.options.Alive == nil && t.result.Err == nil {
		m.schedule() // a probe that was answered stands for a keepalive
	}
	m.mu.Unlock()
	close(t.done)
}

func (t *trip[A]) endsWithin(timeout time.Duration) bool {
	select {
	case <-t.done:
		return true
	case <-time.After(timeout):
		return false
	}
}
