package connectiontarget

import (
	"testing"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// jumpHostOnly makes the facts those of a jump host that no pool selects.
func jumpHostOnly(f *facts) { f.pools, f.onlyJumpHost = nil, true }

func jumpHostSeen(health poolset.HealthState, warm int, changes ...func(*poolset.PoolObservation)) *poolset.PoolObservation {
	seen := seenBy("", health, warm, changes...)
	seen.Pool, seen.MinWarm = poolset.Ref{}, 0
	return &seen
}

func TestConditionsOfATargetThatIsOnlyAJumpHost(t *testing.T) {
	const valid, connected, ready = "CredentialsReady=True/CredentialsValid", "Reachable=True/Connected", "Ready=True/JumpHost"
	tests := map[string]struct {
		change func(*facts)
		seen   *poolset.PoolObservation
		want   []string
		flux   kstatus.Status
	}{
		"no target has been dialed through it yet": {
			want: []string{valid, "Reachable=Unknown/Pending", ready}, flux: kstatus.CurrentStatus,
		},
		"its first dial runs": {
			seen: jumpHostSeen(poolset.HealthUnknown, 0),
			want: []string{valid, "Reachable=Unknown/Pending", ready}, flux: kstatus.CurrentStatus,
		},
		"it is connected": {
			seen: jumpHostSeen(poolset.HealthUp, 1),
			want: []string{valid, connected, ready}, flux: kstatus.CurrentStatus,
		},
		"it was connected and is not needed for the moment": {
			seen: jumpHostSeen(poolset.HealthUp, 0),
			want: []string{valid, connected, ready}, flux: kstatus.CurrentStatus,
		},
		"it does not answer": {
			seen: jumpHostSeen(poolset.HealthDown, 0, failing(driver.Unreachable)),
			want: []string{valid, "Reachable=False/Unreachable", "Ready=False/Unreachable", "Reconciling=True/Retrying"},
			flux: kstatus.InProgressStatus,
		},
		"it takes no more connections, those it has serve": {
			seen: jumpHostSeen(poolset.HealthDown, 1, failing(driver.Unreachable)),
			want: []string{valid, "Reachable=False/Unreachable", ready}, flux: kstatus.CurrentStatus,
		},
		"it refuses the key": {
			seen: jumpHostSeen(poolset.HealthDown, 0, failing(driver.AuthenticationFailed)),
			want: []string{valid, "Reachable=False/AuthenticationFailed", "Ready=False/AuthenticationFailed", "Stalled=True/AuthenticationFailed"},
			flux: kstatus.FailedStatus,
		},
		"its Secret cannot be used": {
			seen: jumpHostSeen(poolset.HealthDown, 0, failing(driver.CredentialsInvalid)),
			want: []string{
				"CredentialsReady=False/CredentialsInvalid", "Reachable=False/CredentialsInvalid",
				"Ready=False/CredentialsInvalid", "Stalled=True/CredentialsInvalid",
			},
			flux: kstatus.FailedStatus,
		},
		"its changed Secret is refused, earlier connections serve": {
			seen: jumpHostSeen(poolset.HealthUp, 1, refused(driver.AuthenticationFailed)),
			want: []string{"CredentialsReady=False/CredentialsInvalid", connected, ready, "Stalled=True/CredentialsInvalid"},
			flux: kstatus.FailedStatus,
		},
		"its Secret is missing": {
			change: func(f *facts) { f.path[0].secret = nil },
			want: []string{
				"CredentialsReady=False/CredentialsMissing", "Reachable=Unknown/CredentialsMissing",
				"Ready=False/CredentialsMissing", "Stalled=True/CredentialsMissing",
			},
			flux: kstatus.FailedStatus,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := complete()
			jumpHostOnly(&f)
			if tc.change != nil {
				tc.change(&f)
			}
			decided := decide(f, allDrivers)
			if decided.want != nil {
				t.Error("the pools are told to dial it for a pool")
			}
			seen := poolset.Observation{JumpHost: tc.seen}
			next := report(f, decided, seen, v1alpha1.ConnectionTargetStatus{}, "replica")
			conditions, computed := summary(t, next)
			if diff := cmp.Diff(tc.want, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if computed != tc.flux {
				t.Errorf("kstatus says %s, want %s", computed, tc.flux)
			}
			checkForm(t, next)
			again := report(f, decided, seen, next, "replica")
			if status.Changed(next.Conditions, again.Conditions) {
				t.Errorf("the same facts change conditions:\n%s", cmp.Diff(next.Conditions, again.Conditions))
			}
		})
	}
}

func TestAJumpHostsConnectionsAreCounted(t *testing.T) {
	f := complete()
	jumpHostOnly(&f)
	carrying := jumpHostSeen(poolset.HealthUp, 1, func(o *poolset.PoolObservation) { o.InUse = 2 })
	next := report(f, decide(f, allDrivers), poolset.Observation{ServerVersion: "OpenSSH", JumpHost: carrying}, v1alpha1.ConnectionTargetStatus{}, "replica")
	if *next.Connections.Warm != 3 || *next.Connections.InUse != 2 || *next.Replica != "replica" || *next.ServerVersion != "OpenSSH" {
		t.Errorf("status %+v", next)
	}
	if len(next.Pools) != 0 {
		t.Errorf("pools %+v, want none", next.Pools)
	}
}
