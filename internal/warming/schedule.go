// Package warming says how many connections are wanted now: pure functions from
// schedules and the time to a wanted floor. Whoever asks gets told when to ask
// again, so nothing here waits or remembers.
package warming

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Floor returns the highest MinWarm of the schedules that hold now, 0 when none
// does, and the next time at which that may change, zero when never. Schedules
// that Check refuses do not count.
func Floor(now time.Time, schedules []v1alpha1.WarmingSchedule) (floor int, next time.Time) {
	for _, schedule := range schedules {
		start, end, err := window(schedule, now)
		if err != nil {
			continue
		}
		// It holds if it ends before it starts again.
		if end.Before(start) {
			floor = max(floor, int(schedule.MinWarm))
		}
		next = earliest(next, start, end)
	}
	return floor, next
}

// Check says in one sentence what is wrong with the first bad schedule.
func Check(now time.Time, schedules []v1alpha1.WarmingSchedule) error {
	for _, schedule := range schedules {
		if _, _, err := window(schedule, now); err != nil {
			return err
		}
	}
	return nil
}

// window returns when the schedule starts and ends next.
func window(s v1alpha1.WarmingSchedule, now time.Time) (start, end time.Time, err error) {
	name := "UTC"
	if s.TimeZone != nil {
		name = *s.TimeZone
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return start, end, fmt.Errorf("warming.schedules %s: the time zone %q is not known; write an IANA name such as Europe/Zurich",
			s.Name, name)
	}
	if start, err = next(now.In(zone), string(s.Start)); err != nil {
		return start, end, fmt.Errorf("warming.schedules %s: start %w", s.Name, err)
	}
	if end, err = next(now.In(zone), string(s.End)); err != nil {
		return start, end, fmt.Errorf("warming.schedules %s: end %w", s.Name, err)
	}
	return start, end, nil
}

func next(now time.Time, expression string) (time.Time, error) {
	if strings.Contains(expression, "TZ=") {
		return time.Time{}, fmt.Errorf("%q must not name a time zone; use timeZone", expression)
	}
	schedule, err := cron.ParseStandard(expression)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not cron's five fields; write for example \"0 8 * * 1-5\"", expression)
	}
	due := schedule.Next(now)
	if due.IsZero() {
		return due, fmt.Errorf("%q never comes due; correct the day or the month", expression)
	}
	return due, nil
}

// earliest returns the earliest of the times that are not zero.
func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if first.IsZero() || (!t.IsZero() && t.Before(first)) {
			first = t
		}
	}
	return first
}
