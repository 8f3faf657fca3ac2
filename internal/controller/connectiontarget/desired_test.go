package connectiontarget

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/poolset"
)

func TestAnEmptyPoolHasTheDefaultsOfTheAPI(t *testing.T) {
	want := poolset.Policy{
		Limits: connpool.Limits{
			MinWarm: 1, Max: 4, MaxPending: 100, AcquireTimeout: 10 * time.Second,
			MaxAge: time.Hour, MaxIdle: 5 * time.Minute, DrainTimeout: 5 * time.Minute,
			ProbePeriod: time.Minute, ProbeTimeout: 5 * time.Second, ProbeFailures: 3,
		},
		KeepaliveInterval: 15 * time.Second, KeepaliveTimeout: 5 * time.Second,
		FailureThreshold: 3, SuccessThreshold: 2,
	}
	for target, leases := range map[v1alpha1.TargetType]int{
		v1alpha1.TargetTypeSSH: 8, v1alpha1.TargetTypeDocker: 100, v1alpha1.TargetTypeKubernetes: 100,
	} {
		want.LeasesPerConn = leases
		if diff := cmp.Diff(want, policy(&v1alpha1.ConnectionPoolSpec{}, target, time.Now())); diff != "" {
			t.Errorf("policy for %s (-want +got):\n%s", target, diff)
		}
	}
}

func TestEveryFieldOfAPoolArrives(t *testing.T) {
	spec := &v1alpha1.ConnectionPoolSpec{
		TargetRef:             &v1alpha1.TargetRef{Name: "web"},
		Routing:               new(v1alpha1.RoutingLeastLoaded),
		Size:                  v1alpha1.PoolSize{MinWarm: new(int32(2)), Max: new(int32(9))},
		SessionsPerConnection: new(int32(3)),
		Acquire:               v1alpha1.PoolAcquire{TimeoutSeconds: new(int32(4)), MaxPending: new(int32(5))},
		Lifecycle: v1alpha1.PoolLifecycle{
			MaxAgeSeconds: new(int32(6)), MaxIdleSeconds: new(int32(7)), MaxUses: new(int32(8)), DrainTimeoutSeconds: new(int32(10)),
		},
		Health: v1alpha1.PoolHealth{
			KeepaliveSeconds: new(int32(11)), PeriodSeconds: new(int32(12)), TimeoutSeconds: new(int32(13)),
			FailureThreshold: new(int32(14)), SuccessThreshold: new(int32(15)), Command: []string{"check"},
		},
		State: new(v1alpha1.PoolPaused),
	}
	want := poolset.Policy{
		Limits: connpool.Limits{
			MinWarm: 2, Max: 9, LeasesPerConn: 3, AcquireTimeout: 4 * time.Second, MaxPending: 5,
			MaxAge: 6 * time.Second, MaxIdle: 7 * time.Second, MaxUses: 8, DrainTimeout: 10 * time.Second,
			ProbePeriod: 12 * time.Second, ProbeTimeout: 13 * time.Second, ProbeFailures: 14, Paused: true,
		},
		KeepaliveInterval: 11 * time.Second, KeepaliveTimeout: 13 * time.Second,
		FailureThreshold: 14, SuccessThreshold: 15, ProbeCommand: []string{"check"},
	}
	if diff := cmp.Diff(want, policy(spec, v1alpha1.TargetTypeDocker, time.Now())); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
}

func TestAWishIsAsOldAsTheNewerOfPoolAndTarget(t *testing.T) {
	noon := metav1.NewTime(time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC))
	earlier := metav1.NewTime(noon.Add(-time.Hour))
	for name, created := range map[string][2]metav1.Time{
		"a new pool of an old target": {noon, earlier}, "a new target of an old pool": {earlier, noon},
	} {
		f := complete()
		f.pools[0].CreationTimestamp, f.target.CreationTimestamp = created[0], created[1]
		if got := desired(f, sshOnly).Pools[0].Declared; !got.Equal(noon.Time) {
			t.Errorf("%s is declared at %s", name, got)
		}
	}
}

func TestZeroTurnsOffWhatMayBeOff(t *testing.T) {
	spec := &v1alpha1.ConnectionPoolSpec{
		Size:      v1alpha1.PoolSize{MinWarm: new(int32(0))},
		Lifecycle: v1alpha1.PoolLifecycle{MaxAgeSeconds: new(int32(0)), MaxIdleSeconds: new(int32(0))},
		Health:    v1alpha1.PoolHealth{KeepaliveSeconds: new(int32(0))},
	}
	got := policy(spec, v1alpha1.TargetTypeDocker, time.Now())
	if got.MinWarm != 0 || got.MaxAge != 0 || got.MaxIdle != 0 || got.KeepaliveInterval != 0 {
		t.Errorf("policy %+v, want zeros", got)
	}
}

func TestAScheduleRaisesTheFloorWhileItHolds(t *testing.T) {
	f := complete() // noon on a Monday
	f.pools[0].Spec.Warming.Schedules = []v1alpha1.WarmingSchedule{
		{Name: "office", Start: "0 8 * * 1-5", End: "0 18 * * 1-5", MinWarm: 3},
	}
	if got := desired(f, sshOnly).Pools[0].MinWarm; got != 3 {
		t.Errorf("MinWarm %d at noon, want 3", got)
	}
	if got := nextSchedule(f); got != 6*time.Hour {
		t.Errorf("holds for %s, want 6h", got)
	}
	f.now = f.now.Add(12 * time.Hour)
	if got := desired(f, sshOnly).Pools[0].MinWarm; got != 1 {
		t.Errorf("MinWarm %d at midnight, want 1", got)
	}
}

// The identity changes with the host or the account, the version with credentials.
func TestIdentityAndVersionChangeWithWhatTheyStandFor(t *testing.T) {
	const same, other = false, true
	tests := map[string]struct {
		change            func(*facts)
		identity, version bool
	}{
		"nothing":          {func(*facts) {}, same, same},
		"a label":          {func(f *facts) { f.target.Labels = map[string]string{"a": "b"} }, same, same},
		"another host":     {func(f *facts) { f.target.Spec.SSH.Host = "elsewhere" }, other, same},
		"another port":     {func(f *facts) { f.target.Spec.SSH.Port = new(int32(2222)) }, other, same},
		"the default port": {func(f *facts) { f.target.Spec.SSH.Port = new(int32(22)) }, same, same},
		"another user":     {func(f *facts) { f.target.Spec.SSH.User = "root" }, other, same},
		"another value in the Secret": {
			func(f *facts) { f.path[0].secret.Data["ssh-privatekey"] = []byte("new") }, same, other,
		},
		"another key in the Secret": {
			func(f *facts) { f.path[0].secret.Data["passphrase"] = nil }, same, other,
		},
		"other pinned keys": {func(f *facts) { f.path[0].knownHosts = []byte("other") }, same, same},
		"another jump host": {
			func(f *facts) { f.path[1] = elementOf(sshTarget("another")) }, other, same,
		},
		"another host of the jump host": {
			func(f *facts) { f.path[1].target.Spec.SSH.Host = "elsewhere" }, other, same,
		},
		"a namesake of the jump host": {func(f *facts) { f.path[1].target.UID = "new" }, other, same},
		"another jump host at the far end": {
			func(f *facts) { f.path[2] = elementOf(sshTarget("another")) }, other, same,
		},
		"another Secret of the jump host": {
			func(f *facts) { f.path[1].secret.Data["ssh-privatekey"] = []byte("new") }, same, same,
		},
		"no jump host": {func(f *facts) { f.path = f.path[:1] }, other, same},
	}
	wanted := func(change func(*facts)) *poolset.Target {
		f := complete()
		both(through("near", "far"), change)(&f)
		return desired(f, sshOnly)
	}
	before := wanted(func(*facts) {})
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			after := wanted(tc.change)
			if got := after.Identity != before.Identity; got != tc.identity {
				t.Errorf("identity changed: %v, want %v (%q)", got, tc.identity, after.Identity)
			}
			if got := after.Version != before.Version; got != tc.version {
				t.Errorf("version changed: %v, want %v", got, tc.version)
			}
		})
	}
}

func TestTrustChangesWithThePinnedKeysOnly(t *testing.T) {
	f := complete()
	before := desired(f, sshOnly)
	f.path[0].secret.Data["ssh-privatekey"] = []byte("new")
	if got := desired(f, sshOnly); got.Trust != before.Trust {
		t.Error("trust changed with the Secret")
	}
	f.path[0].knownHosts = []byte("other")
	if got := desired(f, sshOnly); got.Trust == before.Trust {
		t.Error("trust did not change with the pinned keys")
	}
}

func TestAChangedSecretChangesTheVersionOfItsJumpHostOnly(t *testing.T) {
	f := complete()
	through("near", "far")(&f)
	before := desired(f, sshOnly)
	f.path[1].secret.Data["ssh-privatekey"] = []byte("new")
	after := desired(f, sshOnly)
	if after.JumpHost.Version == before.JumpHost.Version || after.JumpHost.JumpHost.Version != before.JumpHost.JumpHost.Version {
		t.Error("want another version of the near jump host only")
	}
	if after.JumpHost.Name != "near" || after.JumpHost.JumpHost.Name != "far" || after.JumpHost.JumpHost.JumpHost != nil {
		t.Errorf("jump hosts %s, %s; want near, far", after.JumpHost.Name, after.JumpHost.JumpHost.Name)
	}
}

func TestAnAddressOfVersionSixIsBracketed(t *testing.T) {
	f := complete()
	f.target.Spec.SSH.Host = "2001:db8::1"
	if got, want := desired(f, sshOnly).Endpoint.Address, "[2001:db8::1]:22"; got != want {
		t.Errorf("address %s, want %s", got, want)
	}
}
