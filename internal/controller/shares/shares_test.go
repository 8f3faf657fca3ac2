package shares

import (
	"testing"

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
