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
			fix := newFixture(t, Limits{Max: 1, AcquireTimeout: time.Second, DialTimeout: time.Hour})
			first := fix.queueAt(fix.pool.now())
			alarm := fix.pool.s.alarm
			fix.pool.giveUp(first, context.Canceled)
			after(time.Minute)
			late := fix.queueAt(alarm - 1)
			after(time.Minute)
			select {
			case <-late.answered:
			default:
				t.Error("the caller waits for ever")
				fix.pool.giveUp(late, context.Canceled)
			}
		},
		"is for each user in turn, however many callers one of them has": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			fix.connect()
			running := fix.lease()
			var waiting []*attempt
			for _, user := range []string{"ann", "ann", "ann", "bob", "bob", "eve"} {
				waiting = append(waiting, fix.insistAs(user))
			}
			for _, next := range []int{0, 3, 5, 1, 4, 2} {
				running.Release()
				running = waiting[next].got()
			}
			running.Release()
			if s := &fix.pool.s; len(s.lines) > 1 || s.turns.Len > 0 {
				t.Errorf("%d lines and %d turns are left", len(s.lines), s.turns.Len)
			}
		},
		"forgets a user whose callers give up": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			fix.connect()
			running := fix.lease()
			ann, bob := fix.insistAs("ann"), fix.insistAs("bob")
			ann.cancel()
			_ = ann.failed()
			running.Release()
			bob.got().Release()
			if s := &fix.pool.s; len(s.lines) > 1 || s.turns.Len > 0 {
				t.Errorf("%d lines and %d turns are left", len(s.lines), s.turns.Len)
			}
		},
		"finds room for another user when one has filled it": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1, MaxPending: 4})
			fix.connect()
			running := fix.lease()
			var ann []*attempt
			for range 4 {
				ann = append(ann, fix.insistAs("ann"))
			}
			if err := fix.insistAs("ann").failed(); !errors.Is(err, ErrQueueFull) || errors.Is(err, ErrGaveWay) {
				t.Errorf("ann's fifth caller: error %v, want %v", err, ErrQueueFull)
			}
			bob := []*attempt{fix.insistAs("bob"), fix.insistAs("bob")}
			for _, last := range []int{3, 2} {
				if err := ann[last].failed(); !errors.Is(err, ErrGaveWay) {
					t.Errorf("ann's caller %d: error %v, want %v", last, err, ErrGaveWay)
				}
			}
			if err := fix.insistAs("bob").failed(); !errors.Is(err, ErrQueueFull) {
				t.Errorf("bob's third caller: error %v, want %v", err, ErrQueueFull)
			}
			for _, next := range []*attempt{ann[0], bob[0], ann[1], bob[1]} {
				running.Release()
				running = next.got()
			}
			running.Release()
			if pending := fix.pool.Stats().Pending; pending > 0 {
				t.Errorf("%d callers are counted although no caller waits", pending)
			}
		},
		"is refused at once when no caller may wait": func(t *testing.T) {
			fix := newFixture(t, Limits{MinWarm: 1, Max: 1})
			fix.pool.SetLimits(Limits{MinWarm: 1, Max: 1, MaxPending: 0})
			fix.connect()
			fix.lease()
			if err := fix.ask().failed(); !errors.Is(err, ErrQueueFull) {
				t.Errorf("error %v, want %v", err, ErrQueueFull)
			}
			fix.expect("1 in use, 1 leases")
			fix.quiet()
		},
		"is refused on a cold pool too when no caller may wait, but the next is served": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 2, MaxPending: -1})
			for range 3 {
				if err := fix.ask().failed(); !errors.Is(err, ErrQueueFull) {
					t.Errorf("error %v, want %v", err, ErrQueueFull)
				}
			}
			fix.expect("1 dialing")
			fix.connect()
			fix.lease()
			_ = fix.ask().failed()
			fix.expect("1 in use, 1 dialing, 1 leases")
			fix.connect()
			fix.lease()
			fix.expect("2 in use, 2 leases")
		},
		"is refused with the failure of a dial for a caller that did not wait": func(t *testing.T) {
			fix := newFixture(t, Limits{Max: 1, MaxPending: -1})
			_ = fix.ask().failed()
			fix.refuse(errRefused)
			if err := fix.ask().failed(); !errors.Is(err, errRefused) {
				t.Errorf("error %v, want %v", err, errRefused)
			}
			fix.quiet()
		},
	})
}

// queueAt does what Acquire does if it read the clock at an instant.
func (fix *fixture) queueAt(now instant) *waiter[*fakeConn] {
	fix.t.Helper()
	fix.pool.mu.Lock()
	defer fix.pool.unlock()
	waiter, err := fix.pool.s.queue("", now)
	if err != nil {
		fix.t.Fatalf("queue: %v", err)
	}
	return waiter
}
