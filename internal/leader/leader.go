// Package leader makes the lock with which one replica at a time leads. The leader
// holds the connections.
//
//	lock, err := leader.NewLock(config, "connpool-system", "replica-1", log)
//	manager.Options{LeaderElectionResourceLockInterface: lock, ...}
//
// The lock keeps the leadership while kube-apiserver is away: no other replica can
// take the Lease then, and ending would cut every connection for nothing. When
// kube-apiserver is back, each replica that waits for the Lease gives its holder
// the whole duration to renew it.
//
// Trade-offs (docs/decisions/0019): a leader that alone is cut off from
// kube-apiserver does not know that another replica leads by now, and both hold
// connections. That is harmless. Without kube-apiserver it can write nothing, and
// it permits nothing new, because it cannot ask who may.
package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The Lease is renewed as rarely as a quick successor allows, because every
// renewal is an API write, and an idle operator may cost one in 10 s. A replica
// that ends gives the Lease back, so the others wait this long only for one that
// was killed.
const (
	LeaseDuration = 36 * time.Second
	RenewDeadline = 24 * time.Second
	RetryPeriod   = 12 * time.Second
)

const (
	// leaseName is the Lease that the leader holds.
	leaseName = "connpool-leader"
	// callTimeout bounds one call about the Lease, so that a kube-apiserver that
	// hangs is noticed well before the Lease must be renewed.
	callTimeout = 8 * time.Second
)

// patientLock is a lock that keeps the leadership while kube-apiserver is away.
//
// The elector calls it from one goroutine.
type patientLock struct {
	resourcelock.Interface

	log logr.Logger
	// holds reports whether this replica holds the Lease, as far as it knows.
	holds bool
	// away reports whether the last call got no answer. outages counts how often
	// answers came again.
	away    bool
	outages int
}

// NewLock makes the lock of the leader's Lease in the namespace. Two replicas of one
// name do not take one another for themselves. The log is told when kube-apiserver
// stops answering, and when it answers again.
//
// The pod is the UID of the pod that the replica runs in, and empty outside of one. A
// pod runs one container of the operator at a time. So a container that is restarted
// after a crash still holds the Lease, and does not wait until it runs out.
func NewLock(config *rest.Config, namespace, replica, pod string, log logr.Logger) (resourcelock.Interface, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the Lease: %w", err)
	}
	lease, err := resourcelock.New(resourcelock.LeasesResourceLock, namespace, leaseName,
		client.CoreV1(), client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: identity(replica, pod)})
	if err != nil {
		return nil, fmt.Errorf("make the lock of the Lease: %w", err)
	}
	return &patientLock{Interface: lease, log: log}, nil
}

func identity(replica, pod string) string {
	if pod == "" {
		pod = string(uuid.NewUUID())
	}
	return replica + "_" + pod
}

// Get implements resourcelock.Interface.
func (l *patientLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	record, raw, err := l.Interface.Get(ctx)
	l.noteAnswer(err)
	if err != nil {
		return nil, nil, err
	}
	l.holds = l.holds && record.HolderIdentity == l.Identity()
	// The elector starts to wait anew when the raw record has changed. So it changes
	// after each outage: the holder had no chance to renew the Lease.
	return record, strconv.AppendInt(slices.Clone(raw), int64(l.outages), 10), nil
}

// Create implements resourcelock.Interface.
func (l *patientLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Create)
}

// Update implements resourcelock.Interface. For the holder of the Lease it
// succeeds when kube-apiserver gives no answer.
func (l *patientLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.write(ctx, record, l.Interface.Update)
	if l.away && l.holds {
		return nil
	}
	return err
}

// write writes the record, and remembers whether this replica holds the Lease after
// it.
func (l *patientLock) write(ctx context.Context, record resourcelock.LeaderElectionRecord,
	call func(context.Context, resourcelock.LeaderElectionRecord) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := call(ctx, record)
	l.noteAnswer(err)
	if !l.away {
		l.holds = err == nil && record.HolderIdentity == l.Identity()
	}
	return err
}

// noteAnswer remembers whether kube-apiserver answered.
func (l *patientLock) noteAnswer(err error) {
	away := isAway(err)
	switch {
	case away && !l.away:
		l.log.Error(err, "kube-apiserver does not answer; connections and what runs on them stay, new requests are refused")
	case !away && l.away:
		l.outages++
		l.log.Info("kube-apiserver answers again")
	}
	l.away = away
}

// isAway reports whether an error of a call means that kube-apiserver did not
// answer. A refusal is an answer; a failure of the server, or its request to come
// later, is none.
func isAway(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	status, answered := errors.AsType[*apierrors.StatusError](err)
	return !answered || status.Status().Code >= 500 || apierrors.IsTooManyRequests(err)
}
