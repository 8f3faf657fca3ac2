package shares

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
)

// wasReady returns the status of a target that serves pool p.
func wasReady() v1alpha1.ConnectionTargetStatus {
	none, one := new(int32(0)), new(int32(1))
	counts := v1alpha1.ConnectionCounts{Warm: one, InUse: none, Dialing: none, Draining: none}
	return v1alpha1.ConnectionTargetStatus{
		Connections: counts,
		Pools: []v1alpha1.TargetPoolStatus{{
			Name: "p", UID: new(types.UID("p-uid")), Ready: new(true), MinWarm: one, Desired: one, Connections: counts,
		}},
	}
}

func TestAChangeOfAShareIsNotable(t *testing.T) {
	tests := map[string]struct {
		change func(*v1alpha1.TargetPoolStatus)
		want   bool
	}{
		"uses are counters":              {func(p *v1alpha1.TargetPoolStatus) { p.UseCount = new(int64(9)) }, false},
		"another minimum is notable":     {func(p *v1alpha1.TargetPoolStatus) { p.MinWarm = new(int32(9)) }, true},
		"readiness is notable":           {func(p *v1alpha1.TargetPoolStatus) { p.Ready = new(false) }, true},
		"the reason it lacks is notable": {func(p *v1alpha1.TargetPoolStatus) { p.Reason = new("Timeout") }, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			last := wasReady()
			next := *last.DeepCopy()
			tc.change(&next.Pools[0])
			if got := Differ(last, next); got != tc.want {
				t.Errorf("notable: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestFiguresThatCameToRestAreNotableUnlessTheTargetFails(t *testing.T) {
	figures := func(warm, dialing int32, changes ...func(*v1alpha1.TargetPoolStatus)) v1alpha1.ConnectionTargetStatus {
		all := wasReady()
		all.Connections.Warm, all.Connections.Dialing = &warm, &dialing
		all.Pools[0].Desired = new(int32(2))
		for _, change := range changes {
			change(&all.Pools[0])
		}
		return all
	}
	fails := func(share *v1alpha1.TargetPoolStatus) { share.Ready, share.Reason = new(false), new("Timeout") }
	isPaused := func(share *v1alpha1.TargetPoolStatus) {
		share.Ready, share.Reason, share.Desired = new(false), new("Paused"), new(int32(0))
	}
	tests := map[string]struct {
		last, next v1alpha1.ConnectionTargetStatus
		want       bool
	}{
		"dialing has ended":       {figures(1, 1), figures(2, 0), true},
		"dialing goes on":         {figures(0, 2), figures(1, 1), false},
		"a paused one is drained": {figures(2, 0), figures(0, 0, isPaused), true},
		"a failing one flaps":     {figures(0, 0, fails), figures(2, 0, fails), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := CameToRest(tc.last, tc.next); got != tc.want {
				t.Errorf("notable: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestWhatARestartChangesIsNotWorthAWrite(t *testing.T) {
	noon := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	after := func(d time.Duration) *metav1.Time { return new(metav1.NewTime(noon.Add(d))) }
	counts := func(warm, dialing int32) v1alpha1.ConnectionCounts {
		return v1alpha1.ConnectionCounts{Warm: &warm, InUse: new(int32(0)), Dialing: &dialing, Draining: new(int32(0))}
	}
	tests := map[string]struct {
		change func(*v1alpha1.ConnectionTargetStatus)
		want   bool
	}{
		"nothing changed": {func(*v1alpha1.ConnectionTargetStatus) {}, true},
		"the connections were made anew": {func(s *v1alpha1.ConnectionTargetStatus) {
			s.OldestConnectionTime, s.Pools[0].OldestConnectionTime = after(time.Hour), after(time.Hour)
		}, true},
		"the time of the oldest is more than a day off": {func(s *v1alpha1.ConnectionTargetStatus) {
			s.OldestConnectionTime, s.Pools[0].OldestConnectionTime = after(25*time.Hour), after(25*time.Hour)
		}, false},
		"another replica holds them": {func(s *v1alpha1.ConnectionTargetStatus) { s.Replica = new("another") }, true},
		"lost ones are being replaced": {func(s *v1alpha1.ConnectionTargetStatus) {
			s.Connections, s.Pools[0].Connections, s.OldestConnectionTime = counts(0, 1), counts(0, 1), nil
		}, true},
		"more are being made": {func(s *v1alpha1.ConnectionTargetStatus) {
			s.Connections, s.Pools[0].Connections = counts(2, 1), counts(2, 1)
		}, false},
		"one is lost and none is dialed": {func(s *v1alpha1.ConnectionTargetStatus) {
			s.Connections, s.Pools[0].Connections = counts(0, 0), counts(0, 0)
		}, false},
		"it does not serve any more": {func(s *v1alpha1.ConnectionTargetStatus) {
			s.Connections, s.Pools[0].Connections, s.Pools[0].Ready = counts(0, 1), counts(0, 1), new(false)
		}, false},
		"it was used":        {func(s *v1alpha1.ConnectionTargetStatus) { s.Pools[0].UseCount = new(int64(9)) }, false},
		"another pool joins": {func(s *v1alpha1.ConnectionTargetStatus) { s.Pools = append(s.Pools, s.Pools[0]) }, false},
		"its pool leaves":    {func(s *v1alpha1.ConnectionTargetStatus) { s.Pools = nil }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			last := wasReady()
			last.Replica, last.OldestConnectionTime, last.Pools[0].OldestConnectionTime = new("replica"), &noon, &noon
			next := *last.DeepCopy()
			tc.change(&next)
			before := last.DeepCopy()
			if got := Alike(last, next); got != tc.want {
				t.Errorf("alike: %t, want %t", got, tc.want)
			}
			if diff := cmp.Diff(*before, last); diff != "" {
				t.Errorf("the last status was changed (-before +after):\n%s", diff)
			}
		})
	}
}
