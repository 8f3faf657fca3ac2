// Package dialing remembers when a dial passed which stage.
//
//	log := dialing.Begin()
//	made, err := prepared.With(log.Note).Dial(ctx)
//	log.End()
//	passages := log.Passages()
//
// Trade-offs: a connection keeps 250 bytes, also when nothing asks for them. In
// return a lease can tell how its connection was made, although the dial does not know
// for whom it is.
package dialing

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// StageTurn is the wait for the breaker, the jump host and the dial budget. It comes
// before the stages of drivers.
const StageTurn driver.Stage = "turn"

// Passage is a stage that has passed, and from when to when it lasted.
type Passage struct {
	Stage    driver.Stage
	From, To time.Time
}

// Word is the stage in one word, as traces and metrics have it.
func (p Passage) Word() string { return strings.ReplaceAll(strings.ToLower(string(p.Stage)), " ", "_") }

// Log is when one dial passed which stage. It is safe for concurrent use.
type Log struct {
	began time.Time

	mu    sync.Mutex
	marks []mark
	ended bool
}

// mark is a stage, and how long after the beginning of the dial it ended: a third of
// the bytes of a Passage.
type mark struct {
	stage driver.Stage
	after time.Duration
}

// usual is how many stages a dial has.
const usual = 7

// Begin returns the log of a dial that begins now.
func Begin() *Log { return &Log{began: time.Now(), marks: make([]mark, 0, usual)} }

// Note makes the log follow the dials of an endpoint, whose Dial must be set.
func (l *Log) Note(e *driver.Endpoint) {
	dial, reopen, trace := e.Dial, e.Reopen, e.Trace
	if reopen == nil {
		e.Reopen = dial // which the log does not follow
	}
	e.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		l.pass(StageTurn)
		opened, err := dial(ctx, network, address)
		if err == nil {
			l.pass(driver.StageConnect)
		}
		return opened, err
	}
	e.Trace = func(passed driver.Stage, found string) {
		l.pass(passed)
		if trace != nil {
			trace(passed, found)
		}
	}
}

func (l *Log) pass(stage driver.Stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || stage == StageTurn && len(l.marks) > 0 {
		return
	}
	l.marks = append(l.marks, mark{stage, time.Since(l.began)})
}

// End ends the log: what its endpoint dials later belongs to a connection that lives.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// Passages returns the stages that have passed, in their order.
func (l *Log) Passages() []Passage {
	l.mu.Lock()
	defer l.mu.Unlock()
	passages := make([]Passage, len(l.marks))
	from := l.began
	for i, m := range l.marks {
		to := l.began.Add(m.after)
		passages[i] = Passage{Stage: m.stage, From: from, To: to}
		from = to
	}
	return passages
}
