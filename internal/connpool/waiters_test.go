package connpool

import (
	"context"
	"errors"
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
		"is refused at once when nobody may wait": func(t *testing.T) {
			w := newWorld(t, Limits{MinWarm: 1, Max: 1})
			w.pool.SetLimits(Limits{MinWarm: 1, Max: 1, MaxPending: 0})
			w.connect()
			w.lease()
			if err := w.ask().failed(); !errors.Is(err, ErrQueueFull) {
				t.Errorf("error %v, want %v", err, ErrQueueFull)
			}
			w.expect("1 in use, 1 leases")
			w.quiet()
		},
		"is refused on a cold pool too when nobody may wait, but the next is served": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 2, MaxPending: -1})
			for range 3 {
				if err := w.ask().failed(); !errors.Is(err, ErrQueueFull) {
					t.Errorf("error %v, want %v", err, ErrQueueFull)
				}
			}
			w.expect("1 dialing")
			w.connect()
			w.lease()
			_ = w.ask().failed()
			w.expect("1 in use, 1 dialing, 1 leases")
			w.connect()
			w.lease()
			w.expect("2 in use, 2 leases")
		},
		"is refused with the failure of a dial for a caller that did not wait": func(t *testing.T) {
			w := newWorld(t, Limits{Max: 1, MaxPending: -1})
			_ = w.ask().failed()
			w.refuse(errRefused)
			if err := w.ask().failed(); !errors.Is(err, errRefused) {
				t.Errorf("error %v, want %v", err, errRefused)
			}
			w.quiet()
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
