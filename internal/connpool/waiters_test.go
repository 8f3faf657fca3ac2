package connpool

import (
	"context"
	"testing"
	"time"
)

func TestWaiting(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"ends in time for a caller who read the clock before an alarm and got the lock after it": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 1, AcquireTimeout: time.Second, DialTimeout: time.Hour})
			first := w.queueAt(w.pool.now())
			alarm := w.pool.s.alarm
			w.pool.giveUp(first, context.Canceled)
			after(time.Minute)
			late := w.queueAt(alarm - 1)
			after(time.Minute)
			select {
			case <-late.answered:
			default:
				t.Error("the caller waits for ever")
				w.pool.giveUp(late, context.Canceled)
			}
		},
	})
}

// queueAt is what Acquire does when it read the clock at an instant.
func (w *world) queueAt(now instant) *waiter[*fakeConn] {
	w.t.Helper()
	w.pool.mu.Lock()
	defer w.pool.unlock()
	waiter, err := w.pool.s.queue(now)
	if err != nil {
		w.t.Fatalf("queue: %v", err)
	}
	return waiter
}
