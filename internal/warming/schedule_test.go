package warming

import (
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/api/v1alpha1"
)

var office = v1alpha1.WarmingSchedule{Name: "office", Start: "0 8 * * 1-5", End: "0 18 * * 1-5", TimeZone: new("Europe/Zurich"), MinWarm: 3}

func at(text string) time.Time {
	zone, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		panic(err)
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05", text, zone)
	if err != nil {
		panic(err)
	}
	return t
}

func TestFloor(t *testing.T) {
	lunch := v1alpha1.WarmingSchedule{Name: "lunch", Start: "0 12 * * *", End: "0 13 * * *", TimeZone: new("Europe/Zurich"), MinWarm: 5}
	night := v1alpha1.WarmingSchedule{Name: "night", Start: "0 22 * * *", End: "0 4 * * *", TimeZone: new("Europe/Zurich"), MinWarm: 2}
	tests := map[string]struct {
		now       time.Time
		schedules []v1alpha1.WarmingSchedule
		floor     int
		next      time.Time
	}{
		"without schedules the floor is 0":       {at("2026-03-02 09:00:00"), nil, 0, time.Time{}},
		"before the start it does not hold":      {at("2026-03-02 07:59:59"), []v1alpha1.WarmingSchedule{office}, 0, at("2026-03-02 08:00:00")},
		"at the start it holds":                  {at("2026-03-02 08:00:00"), []v1alpha1.WarmingSchedule{office}, 3, at("2026-03-02 18:00:00")},
		"at the end it holds no more":            {at("2026-03-02 18:00:00"), []v1alpha1.WarmingSchedule{office}, 0, at("2026-03-03 08:00:00")},
		"over the weekend it does not hold":      {at("2026-03-07 12:00:00"), []v1alpha1.WarmingSchedule{office}, 0, at("2026-03-09 08:00:00")},
		"it holds across midnight":               {at("2026-03-02 01:00:00"), []v1alpha1.WarmingSchedule{night}, 2, at("2026-03-02 04:00:00")},
		"where several hold, the highest counts": {at("2026-03-02 12:30:00"), []v1alpha1.WarmingSchedule{office, lunch}, 5, at("2026-03-02 13:00:00")},
		"without a time zone it is UTC": {
			at("2026-03-02 08:30:00"), []v1alpha1.WarmingSchedule{{Name: "utc", Start: office.Start, End: office.End, MinWarm: 3}}, 0, at("2026-03-02 09:00:00"),
		},
		"the time of the caller's zone is converted":               {at("2026-03-02 08:30:00").UTC(), []v1alpha1.WarmingSchedule{office}, 3, at("2026-03-02 18:00:00")},
		"daylight saving moves the hour with the clock":            {at("2026-03-30 08:00:00"), []v1alpha1.WarmingSchedule{office}, 3, at("2026-03-30 18:00:00")},
		"a schedule that cannot be parsed leaves the others alone": {at("2026-03-02 09:00:00"), []v1alpha1.WarmingSchedule{{Name: "bad", Start: "x", End: "y"}, office}, 3, at("2026-03-02 18:00:00")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			floor, next := Floor(tc.now, tc.schedules)
			if floor != tc.floor || !next.Equal(tc.next) {
				t.Errorf("Floor = %d until %s, want %d until %s", floor, next, tc.floor, tc.next)
			}
		})
	}
}

func TestCheckNamesTheScheduleAndTheNextStep(t *testing.T) {
	tests := map[string]struct {
		change func(*v1alpha1.WarmingSchedule)
		want   string
	}{
		"an unknown time zone":          {func(s *v1alpha1.WarmingSchedule) { s.TimeZone = new("Mars/Olympus") }, "Mars/Olympus"},
		"a time zone in the expression": {func(s *v1alpha1.WarmingSchedule) { s.Start = "TZ=UTC 0 8 * * *" }, "use timeZone"},
		"a day that never comes":        {func(s *v1alpha1.WarmingSchedule) { s.End = "0 0 30 2 *" }, "never comes due"},
		"no cron expression":            {func(s *v1alpha1.WarmingSchedule) { s.Start = "at eight" }, "five fields"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bad := office
			tc.change(&bad)
			err := Check(at("2026-03-02 09:00:00"), []v1alpha1.WarmingSchedule{bad})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "office") {
				t.Errorf("Check = %v, want it to name the schedule and %q", err, tc.want)
			}
		})
	}
	if err := Check(at("2026-03-02 09:00:00"), []v1alpha1.WarmingSchedule{office}); err != nil {
		t.Errorf("Check of a valid schedule = %v", err)
	}
}
