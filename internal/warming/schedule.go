// Package warming computes how many connections a pool wants now, from its schedules
// and the time. Its functions are pure. They return when the caller must ask again,
// so nothing here waits or keeps state.
package warming

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Floor returns the highest MinWarm of the schedules that hold now, 0 if no schedule
// holds, and the next time at which that may change, the zero time if it never does.
// Schedules that Check refuses do not count.
func Floor(now time.Time, schedules []v1alpha1.WarmingSchedule) (floor int, next time.Time) {
	for _, schedule := range schedules {
		start, end, err := window(schedule, now)
		if err != nil {
			continue
		}
		// A schedule holds if its next end comes before its next start.
		if end.Before(start) {
			floor = max(floor, int(schedule.MinWarm))
		}
		for _, change := range []time.Time{start, end} {
			if next.IsZero() || change.Before(next) {
				next = change
			}
		}
	}
	return floor, next
}

// Check returns an error that says in one sentence what is wrong with the first
// schedule that can never hold; nil if there is none.
func Check(now time.Time, schedules []v1alpha1.WarmingSchedule) error {
	for _, schedule := range schedules {
		if _, _, err := window(schedule, now); err != nil {
			return err
		}
	}
	return nil
}

// window returns when the schedule next starts and next ends, after now. Neither is zero.
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

// next returns when a cron expression next comes due, in the time zone of now. The
// error completes a sentence that begins with the name of the field.
func next(now time.Time, expression string) (time.Time, error) {
	if strings.Contains(expression, "TZ=") {
		return time.Time{}, fmt.Errorf("%q must not name a time zone; use timeZone", expression)
	}
	schedule, err := cron.ParseStandard(expression)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q does not have cron's five fields; write for example \"0 8 * * 1-5\"", expression)
	}
	due := schedule.Next(now)
	if due.IsZero() {
		return due, fmt.Errorf("%q never comes due; correct the day or the month", expression)
	}
	return due, nil
}
