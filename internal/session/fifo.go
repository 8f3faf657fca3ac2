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

// fifo gives the turn to one caller at a time, in order of arrivaf.
type fifo struct {
	mu      sync.Mutex
	taken   bool
	waiting []chan struct{}
}

// enter waits for the caller's turn. Unless enter fails, the caller must call leave.
func (f *fifo) enter(ctx context.Context) error {
	turn, err := f.queue()
	if err != nil {
		return err
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	if !f.withdraw(turn) {
		f.leave()
	}
	return &driver.Error{
		Reason: driver.Timeout, Stage: driver.StageSession, Err: context.Cause(ctx),
		Message: "the caller did not wait until the commands before had ended; the session goes on",
	}
}

// queue returns a channel that is closed when it is the caller's turn.
func (f *fifo) queue() (turn chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	turn = make(chan struct{})
	switch {
	case !f.taken:
		f.taken = true
		close(turn)
	case len(f.waiting) == maxWaiting:
		return nil, &driver.Error{
			Reason: driver.PoolExhausted, Stage: driver.StageSession,
			Message: fmt.Sprintf("%d commands wait for the session already; wait for some to end, or create another session", maxWaiting),
		}
	default:
		f.waiting = append(f.waiting, turn)
	}
	return turn, nil
}

// withdraw takes the caller out of the queue. It returns false if it is the caller's
// turn already.
func (f *fifo) withdraw(turn chan struct{}) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.Index(f.waiting, turn)
	if at < 0 {
		return false
	}
	f.waiting = slices.Delete(f.waiting, at, at+1)
	return true
}

// leave ends the caller's turn and gives it to the next.
func (f *fifo) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.taken = false
		return
	}
	close(f.waiting[0])
	f.waiting = slices.Delete(f.waiting, 0, 1)
}
