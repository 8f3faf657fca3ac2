package status

import (
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestATransitionIsWrittenAtOnce(t *testing.T) {
	pace := NewPace[int](NewBudget())
	pace.Wrote(start, "a", 1)
	if write, _ := pace.Due(start, "a", 2, Transition); !write {
		t.Error("a transition waits")
	}
}

func TestAnUnchangedStatusIsNeverWritten(t *testing.T) {
	pace := NewPace[int](NewBudget())
	pace.Wrote(start, "a", 1)
	write, after := pace.Due(start.Add(time.Hour), "a", 1, Transition)
	if write || after != 0 {
		t.Errorf("Due = %t, %s; want no write and no later call", write, after)
	}
}

func TestCountersWaitForTheInterval(t *testing.T) {
	pace := NewPace[int](NewBudget())
	pace.Wrote(start, "a", 1)
	write, after := pace.Due(start.Add(10*time.Second), "a", 2, Counters)
	if write || after != Interval-10*time.Second {
		t.Errorf("Due = %t, %s; want to wait for the rest of the interval", write, after)
	}
	if write, _ := pace.Due(start.Add(Interval), "a", 3, Counters); !write {
		t.Error("the counters are still not written at the end of the interval")
	}
}

func TestCountersThatWereLongUnchangedWaitOnlyUntilTheyHaveSettled(t *testing.T) {
	pace := NewPace[int](NewBudget())
	pace.Wrote(start, "a", 1)
	if _, after := pace.Due(start.Add(time.Hour), "a", 2, Counters); after != settle {
		t.Errorf("wait %s, want %s", after, settle)
	}
}

func TestANotableChangeWaitsOnlyUntilItHasSettled(t *testing.T) {
	pace := NewPace[int](NewBudget())
	pace.Wrote(start, "a", 1)
	if write, after := pace.Due(start.Add(time.Second), "a", 2, Notable); write || after != settle {
		t.Errorf("Due = %t, %s; want to wait until it has settled", write, after)
	}
	if write, _ := pace.Due(start.Add(time.Second+settle), "a", 3, Notable); !write {
		t.Error("the change is still not written when it has settled")
	}
}

func TestANotableChangeDoesNotQueueBehindCounters(t *testing.T) {
	pace := NewPace[int](NewBudget())
	for i := range 1000 {
		uid := types.UID(strconv.Itoa(i))
		pace.Wrote(start, uid, 0)
		pace.Due(start, uid, 1, Counters)
		pace.Due(start.Add(Interval), uid, 1, Counters)
	}
	pace.Wrote(start, "a", 1)
	pace.Due(start.Add(Interval-settle), "a", 2, Notable)
	if write, after := pace.Due(start.Add(Interval), "a", 2, Notable); !write {
		t.Errorf("the change waits for %s", after)
	}
}

// A pool whose connections come and go every two seconds comes to rest as often.
func TestNotableChangesOfOneObjectAreBounded(t *testing.T) {
	pace := NewPace[int](NewBudget())
	pace.Wrote(start, "a", 0)
	writes := 0
	for second := range 120 {
		now := start.Add(time.Duration(second) * time.Second)
		if write, _ := pace.Due(now, "a", second/2+1, Notable); write {
			pace.Wrote(now, "a", second/2+1)
			writes++
		}
	}
	if most := notableBurst + 120/int(notableEvery.Seconds()); writes < notableBurst || writes > most {
		t.Errorf("%d writes in two minutes, want at most %d", writes, most)
	}
}

// Of thousands of targets that start together, nearly all are written once: when they have
// their verdict.
func TestArrivalsWaitForTheirVerdictAndAreBounded(t *testing.T) {
	pace := NewPace[int](NewBudget())
	const objects, seconds = 2000, 30
	written := map[types.UID]bool{}
	for second := range seconds {
		now := start.Add(time.Duration(second) * time.Second)
		for i := range objects {
			uid := types.UID(strconv.Itoa(i))
			if written[uid] {
				continue
			}
			write, after := pace.Due(now, uid, 1, Arrival)
			switch {
			case write && now.Before(start.Add(settle)):
				t.Fatalf("an arrival is written after %s", now.Sub(start))
			case write:
				pace.Wrote(now, uid, 1)
				written[uid] = true
			case after <= 0:
				t.Fatal("an arrival that was not written is never looked at again")
			}
		}
	}
	if most := arrivalBurst + arrivalRate*seconds; len(written) < arrivalBurst || len(written) > most {
		t.Errorf("%d arrivals were written in %d s, want %d to %d", len(written), seconds, arrivalBurst, most)
	}
	if write, _ := pace.Due(start.Add(seconds*time.Second), "new", 2, Transition); !write {
		t.Error("a verdict waits for arrivals")
	}
}

func TestCountersOfManyObjectsShareTheRateOldestFirst(t *testing.T) {
	pace := NewPace[int](NewBudget())
	const objects = 100
	var previous time.Duration
	for i := range objects {
		uid := types.UID(rune('a' + i))
		pace.Wrote(start, uid, 0)
		pace.Due(start, uid, 1, Counters)
		write, after := pace.Due(start.Add(Interval), uid, 1, Counters)
		if write != (i == 0) || after < previous {
			t.Fatalf("object %d: write %t after %s, before the %s of an earlier one", i, write, after, previous)
		}
		previous = after
	}
	if want := time.Duration(objects-1) * time.Second / Rate; previous < want {
		t.Errorf("the last of %d writes is due after %s, want at least %s", objects, previous, want)
	}
}

func TestWhatAnEarlierProcessWroteIsNotWrittenAgain(t *testing.T) {
	pace := NewPace[int](NewBudget())
	if last := pace.Last("a", 7); last != 7 {
		t.Fatalf("Last = %d, want what the object says", last)
	}
	if write, after := pace.Due(start, "a", 7, Transition); write || after != 0 {
		t.Error("the same status is written again")
	}
	pace.Wrote(start, "a", 8)
	if last := pace.Last("a", 7); last != 8 {
		t.Errorf("Last = %d, want what was written, not what a late cache says", last)
	}
}

func TestChanged(t *testing.T) {
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Warm", Message: "a", ObservedGeneration: 1}
	with := func(change func(*metav1.Condition)) []metav1.Condition {
		changed := ready
		change(&changed)
		return []metav1.Condition{changed}
	}
	tests := map[string]struct {
		after []metav1.Condition
		want  bool
	}{
		"the same is no change":             {with(func(*metav1.Condition) {}), false},
		"another message is no change":      {with(func(c *metav1.Condition) { c.Message = "b" }), false},
		"another status is a change":        {with(func(c *metav1.Condition) { c.Status = metav1.ConditionFalse }), true},
		"another reason is a change":        {with(func(c *metav1.Condition) { c.Reason = "Cold" }), true},
		"a transient failure is a change":   {with(func(c *metav1.Condition) { c.Reason = "Timeout" }), true},
		"another generation is a change":    {with(func(c *metav1.Condition) { c.ObservedGeneration = 2 }), true},
		"another type is a change":          {with(func(c *metav1.Condition) { c.Type = "Stalled" }), true},
		"a condition that goes is a change": {nil, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Changed([]metav1.Condition{ready}, tc.after); got != tc.want {
				t.Errorf("Changed = %t, want %t", got, tc.want)
			}
		})
	}
}

func TestOneTransientFailureInsteadOfAnotherIsNoChange(t *testing.T) {
	failing := func(reason string) []metav1.Condition {
		return []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: reason}}
	}
	if Changed(failing("Timeout"), failing("Unreachable")) {
		t.Error("Timeout to Unreachable counts as a change")
	}
	if !Changed(failing("Timeout"), failing("HostKeyMismatch")) {
		t.Error("Timeout to HostKeyMismatch does not count as a change, although a person must act")
	}
}

// Two targets and their two pools, of which a command ends every 150 ms: a target looks at
// its counts once per Interval, and its pool when the target's status has changed.
func TestTwoMinutesOfCommandsOnTwoPoolsCostAtMostTwelveWrites(t *testing.T) {
	for phase := time.Duration(0); phase < Interval; phase += time.Second {
		pace := NewPace[int](NewBudget())
		writes := 0
		written := func(now time.Time, uid types.UID, uses int) bool {
			due, _ := pace.Due(now, uid, uses, Counters)
			if due {
				pace.Wrote(now, uid, uses)
				writes++
			}
			return due
		}
		shown := map[types.UID]int{}
		looked := map[types.UID]int{}
		for at := time.Duration(0); at < 2*time.Minute; at += 150 * time.Millisecond {
			now := start.Add(at)
			for i, uid := range []types.UID{"a", "b"} {
				if turn := int((at + phase + time.Duration(i)*7*time.Second) / Interval); turn > looked[uid] {
					looked[uid] = turn
					shown[uid] = int(at / time.Millisecond)
				}
				written(now, "target "+uid, shown[uid])
				written(now, "pool "+uid, shown[uid])
			}
		}
		if writes > 12 {
			t.Errorf("beginning %s after a look: %d writes", phase, writes)
		}
	}
}

func TestAStatusIsInMemoryOnceWhenTheCacheHasIt(t *testing.T) {
	pace, own := NewPace[*string](NewBudget()), new("Warm")
	pace.Wrote(start, "uid", own)
	if got := pace.Last("uid", new("Warming")); got != own {
		t.Error("while the cache lags behind, another status counts than the written one")
	}
	cached := new("Warm")
	if got := pace.Last("uid", cached); got != cached {
		t.Error("the written status is kept beside the cache's, which is the same")
	}
}
