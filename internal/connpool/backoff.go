package connpool

import "time"

const (
	// backoffBase and backoffMax bound the wait after failed dials.
	backoffBase = time.Second
	backoffMax  = time.Minute
	// parkTime is how long a parked target is left alone.
	parkTime = 5 * time.Minute
)

// Steady is the age at which a connection has lasted. The loss of a younger one is a
// sign of a target that takes connections only to drop them.
const Steady = 10 * time.Second

// InsistGap is the least time between the end of a dial and the next one that is made
// only because a caller insists.
const InsistGap = 2 * time.Second

// Backoff is how long to wait after the given number of consecutive failures:
// exponential from 1 s to the longest wait, with full jitter. The random number is in
// [0, 1). A longest wait of 0 means 60 s.
func Backoff(failures int, longest time.Duration, random float64) time.Duration {
	if failures <= 0 {
		return 0
	}
	if longest <= 0 {
		longest = backoffMax
	}
	ceiling := longest
	if failures < 7 {
		ceiling = min(longest, backoffBase<<(failures-1))
	}
	return time.Duration(random * float64(ceiling))
}

// failureStreak is the recent failures to dial, and when to try again.
type failureStreak struct {
	failures int
	err      error
	since    instant
	// step drives the backoff. Dials that ran side by side count once.
	step int
	last instant
	// next is the earliest next dial; parked reports whether dialing was stopped
	// until then rather than backed off.
	next   instant
	parked bool
	// asked is until when not even a caller who insists may have the target dialed,
	// because it is parked or asked for a wait.
	asked instant
	// flaps counts connections lost before they were Steady, flapped is when the
	// last one was lost. Dials that succeed do not end such a streak.
	flaps   int
	flapped instant
}

// failedDial is a dial that failed, and what to do about it.
type failedDial struct {
	err     error
	verdict Verdict
	began   instant
	// insisted reports whether it was made only because a caller insisted.
	insisted bool
}

// waits reports whether it is too early to dial.
func (t *failureStreak) waits(now instant) bool { return now < t.next }

// failed records a failed dial. One that a caller insisted on does not make the next
// waits longer, so that requests do not delay the recovery.
func (t *failureStreak) failed(dial failedDial, now instant, random float64) {
	t.note(dial.err, now)
	if t.step == 0 || dial.began > t.last && !dial.insisted {
		t.step++
	}
	t.last = now
	v, least := dial.verdict, dial.verdict.RetryAfter
	if v.Park && least == 0 {
		least = parkTime
	}
	t.parked = v.Park
	t.asked = now + least
	t.next = max(t.asked, now+Backoff(t.step, v.LongestBackoff, random))
}

// succeeded records a dial that succeeded.
func (t *failureStreak) succeeded() { *t = failureStreak{flaps: t.flaps, flapped: t.flapped} }

// lost records a connection's death. The first redial is immediate; only a target
// that keeps dropping young connections is backed off from. It reports whether the
// connection was young, and the first of those that were lost together.
func (t *failureStreak) lost(cause error, created, now instant, random float64) (young bool) {
	if now-created >= Steady {
		t.flaps = 0
		return false
	}
	if created < t.flapped {
		return false
	}
	t.flapped = now
	t.flaps++
	if t.flaps > 1 {
		t.note(cause, now)
		t.next = max(t.next, now+Backoff(t.flaps-1, 0, random))
	}
	return true
}

// note adds a failure to the streak.
func (t *failureStreak) note(err error, now instant) {
	if t.failures == 0 {
		t.since = now
	}
	t.failures++
	t.err = err
}

// forgive allows the next dial at once. The failures stay in the statistics.
func (t *failureStreak) forgive() {
	t.step, t.flaps, t.next, t.asked, t.parked = 0, 0, 0, 0, false
}
