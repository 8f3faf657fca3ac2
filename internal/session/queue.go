package session

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/connpool/connpool/internal/driver"
)

// maxWaiting bounds how many commands may wait for their turn.
const maxWaiting = 100

// queue gives the turn to one caller at a time, in order of arrival.
type queue struct {
	// turn is first in, first out.
	turn *semaphore.Weighted
	// present holds a value for each caller who waits or has the turn.
	present chan struct{}
}

func newQueue() *queue {
	return &queue{turn: semaphore.NewWeighted(1), present: make(chan struct{}, 1+maxWaiting)}
}

// enter waits for the caller's turn. Unless enter fails, the caller must call leave.
func (q *queue) enter(ctx context.Context) error {
	select {
	case q.present <- struct{}{}:
	default:
		return driver.Errorf(driver.PoolExhausted, driver.StageSession,
			"%d commands wait for the session already; wait for some to end, or create another session", maxWaiting)
	}
	if q.turn.Acquire(ctx, 1) == nil {
		return nil
	}
	<-q.present
	return driver.Errorf(driver.Timeout, driver.StageSession,
		"the caller did not wait until the commands before had ended; the session goes on").Because(context.Cause(ctx))
}

// leave ends the caller's turn and gives it to the next.
func (q *queue) leave() {
	<-q.present
	q.turn.Release(1)
}
