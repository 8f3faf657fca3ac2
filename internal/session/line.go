package session

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// maxWaiting bounds how many commands may wait for their turn.
const maxWaiting = 100

// line lets one at a time through, in order of arrival.
type line struct {
	mu      sync.Mutex
	taken   bool
	waiting []chan struct{}
}

// enter waits for the turn. Unless it fails, leave must be called.
func (l *line) enter(ctx context.Context) error {
	turn, err := l.queue()
	if err != nil {
		return err
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	if !l.withdraw(turn) {
		l.leave()
	}
	return &driver.Error{
		Reason: driver.Timeout, Stage: driver.StageSession, Err: context.Cause(ctx),
		Message: "the caller did not wait until the commands before had ended; the session goes on",
	}
}

// queue returns what is closed when it is the caller's turn.
func (l *line) queue() (turn chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	turn = make(chan struct{})
	switch {
	case !l.taken:
		l.taken = true
		close(turn)
	case len(l.waiting) == maxWaiting:
		return nil, &driver.Error{
			Reason: driver.PoolExhausted, Stage: driver.StageSession,
			Message: fmt.Sprintf("%d commands wait for the session already; wait for some to end, or create another session", maxWaiting),
		}
	default:
		l.waiting = append(l.waiting, turn)
	}
	return turn, nil
}

// withdraw gives up a place, and returns false if it is the caller's turn already.
func (l *line) withdraw(turn chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.Index(l.waiting, turn)
	if at < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, at, at+1)
	return true
}

// leave lets the next one through.
func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.taken = false
		return
	}
	close(l.waiting[0])
	l.waiting = slices.Delete(l.waiting, 0, 1)
}
