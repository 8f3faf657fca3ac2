package connpool

import (
	"testing"
	"time"
)

func TestDials(t *testing.T) {
	tests := map[string]struct {
		demand demand
		want   int
	}{
		"nothing is wanted":                                      {demand{max: 4, slots: 1}, 0},
		"the minimum is kept":                                    {demand{minWarm: 3, max: 4, slots: 1, fresh: 1}, 2},
		"dials that run count":                                   {demand{minWarm: 3, max: 4, slots: 1, fresh: 1, dialing: 1}, 1},
		"more run than are wanted now":                           {demand{max: 4, slots: 1, dialing: 3}, 0},
		"one connection serves as many waiters as it has slots":  {demand{max: 9, slots: 8, waiters: 9}, 2},
		"waiters get no more than the maximum":                   {demand{max: 2, slots: 1, waiters: 9, fresh: 1}, 1},
		"each retiring connection gets a successor":              {demand{minWarm: 1, max: 4, slots: 1, retiring: 2}, 2},
		"successors fit beside a full pool":                      {demand{max: 2, slots: 1, retiring: 2}, 2},
		"a fresh full pool leaves no room":                       {demand{max: 2, slots: 1, fresh: 2, retiring: 2, waiters: 5}, 0},
		"closing connections hold their slot":                    {demand{minWarm: 1, max: 1, slots: 1, closing: 1}, 0},
		"stale dials hold their slot":                            {demand{minWarm: 1, max: 1, slots: 1, stale: 1}, 0},
		"draining connections do not":                            {demand{minWarm: 1, max: 1, slots: 1, draining: 1}, 1},
		"but there are never more than twice the maximum in all": {demand{minWarm: 1, max: 1, slots: 1, draining: 2}, 0},
		"an unknown target is tried by one":                      {demand{minWarm: 3, max: 4, slots: 1, waiters: 4, cautious: true}, 1},
		"and by no second":                                       {demand{minWarm: 3, max: 4, slots: 1, dialing: 1, cautious: true}, 0},
		"a failed target is tried although nothing is wanted":    {demand{max: 4, slots: 1, fresh: 1, recover: true}, 1},
		"and by one dial at a time":                              {demand{max: 4, slots: 1, dialing: 1, recover: true}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.demand.dials(); got != tc.want {
				t.Errorf("%+v: %d dials, want %d", tc.demand, got, tc.want)
			}
		})
	}
}

func TestDue(t *testing.T) {
	l := Limits{MaxAge: 100 * time.Second, MaxIdle: 10 * time.Second, MaxUses: 5, ProbePeriod: 20 * time.Second}
	tests := map[string]struct{ got, want any }{
		"without jitter a connection expires at its age":   {l.expiry(1, 0), 100*time.Second + 1},
		"full jitter takes a tenth of the age":             {l.expiry(1, 1), 90*time.Second + 1},
		"no age, no expiry":                                {Limits{}.expiry(1, 0), instant(0)},
		"an expired connection is worn":                    {l.worn(1, 0, 0, 100*time.Second+1), true},
		"a moment before it is not":                        {l.worn(1, 0, 0, 100*time.Second), false},
		"a used up connection is worn":                     {l.worn(1, 0, 5, 2), true},
		"without limits nothing is worn":                   {Limits{}.worn(1, 0, 1e9, time.Hour), false},
		"idle time counts from the last use":               {l.idleDue(0, 5, 7), 10*time.Second + 5},
		"a leased connection has its idle time before it":  {l.idleDue(1, 5, 7), 10*time.Second + 7},
		"no idle time, no end":                             {Limits{}.idleDue(0, 5, 7), instant(0)},
		"a probe is due a period after the last":           {l.probeDue(3, 0), 20*time.Second + 3},
		"no period, no probe":                              {Limits{}.probeDue(3, 0), instant(0)},
		"an unused draining connection has drained":        {drained(0, 0, 1), true},
		"a used one has not":                               {drained(1, 0, time.Hour), false},
		"unless its deadline came":                         {drained(1, 5, 5), true},
		"the earlier of two":                               {earlier(5, 3), instant(3)},
		"never is later than any time, on the left":        {earlier(0, 3), instant(3)},
		"never is later than any time, on the right":       {earlier(3, 0), instant(3)},
		"never does not come":                              {due(0, time.Hour), false},
		"a minimum above the maximum is the maximum":       {Limits{MinWarm: 3, Max: 2}.withDefaults().MinWarm, 2},
		"there is room for one by default":                 {Limits{}.withDefaults().Max, 1},
		"off stays off":                                    {Limits{}.withDefaults().MaxAge, time.Duration(0)},
		"no drain time stays none: leases are cut at once": {Limits{}.withDefaults().DrainTimeout, time.Duration(0)},
		"a deadline on Acquire always applies":             {Limits{}.withDefaults().AcquireTimeout, 10 * time.Second},
		"a deadline on dials always applies":               {Limits{}.withDefaults().DialTimeout, 10 * time.Second},
		"a negative limit is the default, as is none":      {Limits{Max: -1}.withDefaults().Max, 1},
		"no caller waits unless a limit says so":           {Limits{}.withDefaults().MaxPending, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.got != tc.want {
				t.Errorf("got %v, want %v", tc.got, tc.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	tests := map[string]struct {
		failures int
		longest  time.Duration
		random   float64
		want     time.Duration
	}{
		"no failure, no wait":             {0, 0, 0.5, 0},
		"the first wait is up to 1 s":     {1, 0, 1, time.Second},
		"the second is up to twice that":  {2, 0, 1, 2 * time.Second},
		"full jitter may take all of it":  {5, 0, 0, 0},
		"full jitter takes its part":      {3, 0, 0.25, time.Second},
		"the sixth is up to 32 s":         {6, 0, 1, 32 * time.Second},
		"from the seventh on up to 60 s":  {7, 0, 1, time.Minute},
		"a long outage does not overflow": {1 << 40, 0, 1, time.Minute},
		"a lower bound is reached":        {4, 8 * time.Second, 1, 8 * time.Second},
		"and holds from then on":          {1 << 40, 8 * time.Second, 1, 8 * time.Second},
		"and changes nothing before":      {3, 8 * time.Second, 1, 4 * time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Backoff(tc.failures, tc.longest, tc.random); got != tc.want {
				t.Errorf("Backoff(%d, %v) = %s, want %s", tc.failures, tc.random, got, tc.want)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	tests := map[string]struct {
		verdict Verdict
		want    time.Duration
	}{
		"no verdict backs off":                {Verdict{}, time.Second},
		"a server that asks for time gets it": {Verdict{RetryAfter: time.Minute}, time.Minute},
		"but never less than the backoff":     {Verdict{RetryAfter: time.Millisecond}, time.Second},
		"parking is for 5 minutes":            {Verdict{Park: true}, 5 * time.Minute},
		"or for as long as the driver says":   {Verdict{Park: true, RetryAfter: time.Hour}, time.Hour},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var tr failureStreak
			tr.failed(failedDial{err: errRefused, verdict: tc.verdict, began: 1}, 2, 1)
			if tr.next != 2+tc.want || tr.parked != tc.verdict.Park || !tr.waits(tr.next-1) || tr.waits(tr.next) {
				t.Errorf("%+v, want to wait %s", tr, tc.want)
			}
		})
	}
}
