package leader

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseStore is the Lease in kube-apiserver.
type leaseStore struct {
	mu      sync.Mutex
	record  *resourcelock.LeaderElectionRecord
	version int
}

// replicaLock is one replica's connection to the Lease, which can be cut.
type replicaLock struct {
	resourcelock.Interface

	store    *leaseStore
	identity string
	cut      bool // guarded by the store's mutex
	seen     int
}

var leaseResource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

func (l *replicaLock) Identity() string   { return l.identity }
func (l *replicaLock) Describe() string   { return l.identity }
func (l *replicaLock) RecordEvent(string) {}

func (l *replicaLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.cut {
		return nil, nil, errors.New("connection refused")
	}
	if l.store.record == nil {
		return nil, nil, apierrors.NewNotFound(leaseResource, leaseName)
	}
	l.seen = l.store.version
	raw, err := json.Marshal(l.store.record)
	record := *l.store.record
	return &record, raw, err
}

func (l *replicaLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, record)
}

func (l *replicaLock) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.cut {
		return errors.New("connection refused")
	}
	if l.seen != l.store.version {
		return apierrors.NewConflict(leaseResource, leaseName, errors.New("another replica was quicker"))
	}
	l.store.version++
	l.seen = l.store.version
	l.store.record = &record
	return nil
}

// replica is a replica that wants to lead.
type replica struct {
	lock    *replicaLock
	elector *leaderelection.LeaderElector
	lost    chan struct{}
}

func newReplica(t *testing.T, store *leaseStore, name string) *replica {
	t.Helper()
	r := &replica{lock: &replicaLock{store: store, identity: name}, lost: make(chan struct{})}
	var err error
	r.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          &patientLock{Interface: r.lock, log: logr.Discard()},
		LeaseDuration: LeaseDuration, RenewDeadline: RenewDeadline, RetryPeriod: RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {},
			OnStoppedLeading: func() { close(r.lost) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replica) setCut(cut bool) {
	r.lock.store.mu.Lock()
	defer r.lock.store.mu.Unlock()
	r.lock.cut = cut
}

func (r *replica) isLost() bool {
	select {
	case <-r.lost:
		return true
	default:
		return false
	}
}

// withStandby runs the test in virtual time, with a replica that leads and one that
// waits to.
func withStandby(t *testing.T, test func(t *testing.T, leader, standby *replica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := &leaseStore{}
		leader, standby := newReplica(t, store, "leader"), newReplica(t, store, "standby")
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { leader.elector.Run(ctx) })
		time.Sleep(time.Second)
		running.Go(func() { standby.elector.Run(ctx) })
		time.Sleep(time.Minute)
		if !leader.elector.IsLeader() {
			t.Fatal("the first replica does not lead")
		}
		test(t, leader, standby)
	})
}

// F29.
func TestAnOutageOfTheAPIServerMovesNoLeadership(t *testing.T) {
	withStandby(t, func(t *testing.T, leader, standby *replica) {
		leader.setCut(true)
		standby.setCut(true)
		time.Sleep(5 * time.Minute)
		if leader.isLost() || !leader.elector.IsLeader() {
			t.Error("the leader gave up while kube-apiserver was away")
		}
		standby.setCut(false) // it reaches kube-apiserver before the leader does
		time.Sleep(RetryPeriod)
		leader.setCut(false)
		time.Sleep(5 * time.Minute)
		if leader.isLost() || standby.elector.IsLeader() {
			t.Error("the leadership moved when kube-apiserver was back")
		}
	})
}

func TestALeaderThatAloneIsCutOffIsReplaced(t *testing.T) {
	withStandby(t, func(t *testing.T, leader, standby *replica) {
		leader.setCut(true)
		time.Sleep(LeaseDuration + 2*RetryPeriod + RetryPeriod)
		if !standby.elector.IsLeader() {
			t.Error("the standby did not take over")
		}
		leader.setCut(false)
		time.Sleep(RenewDeadline + LeaseDuration)
		if !leader.isLost() {
			t.Error("the former leader does not know that it has lost the Lease")
		}
	})
}

func TestARestartedContainerLeadsAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		pod       string
		wantLeads bool
	}{
		"in the pod of the one that was killed": {"uid-1", true},
		"in another pod":                        {"uid-2", false},
		"outside of pods":                       {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &leaseStore{}
				killed, restarted := newReplica(t, store, identity("replica", "uid-1")), newReplica(t, store, identity("replica", tc.pod))
				life, kill := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { killed.elector.Run(life) })
				time.Sleep(time.Minute)
				kill()
				running.Wait()

				ctx, stop := context.WithCancel(t.Context())
				running.Go(func() { restarted.elector.Run(ctx) })
				time.Sleep(time.Second)
				if got := restarted.elector.IsLeader(); got != tc.wantLeads {
					t.Errorf("it leads after a second: %v, want %v", got, tc.wantLeads)
				}
				stop()
				running.Wait()
			})
		})
	}
}
