package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// leaseName is the Lease that the leader holds.
	leaseName = "connpool-leader"
	// lockTimeout bounds one call about it, so that a kube-apiserver that hangs is
	// noticed well before the Lease must be renewed.
	lockTimeout = 8 * time.Second
	// ownNamespace is where a pod reads its namespace.
	ownNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// patientLock keeps the leadership while kube-apiserver is away: nobody can take
// the Lease then, and to end would cut every connection for nothing. When it is
// back, whoever waits for the Lease gives its holder the whole duration to renew
// it. What a leader does that has lost it in truth is harmless: it can write
// nothing without kube-apiserver, and permits nobody new, since it cannot ask.
//
// The elector calls it from one goroutine.
type patientLock struct {
	resourcelock.Interface

	log logr.Logger
	// own is what we hold the Lease with; nil while we do not.
	own *resourcelock.LeaderElectionRecord
	// away reports that the last call got no answer, and outages counts.
	away    bool
	outages int
}

// newLock makes the lock of the leader's Lease.
func (o *options) newLock(config *rest.Config, log logr.Logger) (*patientLock, error) {
	namespace, err := o.leaseNamespace()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the Lease: %w", err)
	}
	identity := resourcelock.ResourceLockConfig{Identity: o.replica + "_" + string(uuid.NewUUID())}
	lease, err := resourcelock.New(resourcelock.LeasesResourceLock, namespace, leaseName,
		client.CoreV1(), client.CoordinationV1(), identity)
	if err != nil {
		return nil, fmt.Errorf("make the lock of the Lease: %w", err)
	}
	return &patientLock{Interface: lease, log: log}, nil
}

func (o *options) leaseNamespace() (string, error) {
	for _, given := range []string{o.namespace, o.live.namespace} {
		if given != "" {
			return given, nil
		}
	}
	own, err := os.ReadFile(ownNamespace)
	if err != nil {
		return "", errors.New("not in a pod: name the namespace of the leader's Lease with --leader-elect-namespace")
	}
	return strings.TrimSpace(string(own)), nil
}

// Get implements resourcelock.Interface.
func (l *patientLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	record, raw, err := l.Interface.Get(ctx)
	l.note(err)
	if err != nil {
		return nil, nil, err
	}
	if record.HolderIdentity != l.Identity() {
		l.own = nil
	}
	// The elector waits anew for a record that looks new: one after an outage does.
	return record, strconv.AppendInt(slices.Clone(raw), int64(l.outages), 10), nil
}

// Create implements resourcelock.Interface.
func (l *patientLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return l.wrote(record, l.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface. For the holder of the Lease it
// succeeds when there is no answer.
func (l *patientLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err := l.wrote(record, l.Interface.Update(ctx, record))
	if l.away && l.own != nil {
		return nil
	}
	return err
}

// wrote notes what became of a write.
func (l *patientLock) wrote(record resourcelock.LeaderElectionRecord, err error) error {
	l.note(err)
	switch {
	case err == nil && record.HolderIdentity == l.Identity():
		l.own = &record
	case !l.away:
		l.own = nil
	}
	return err
}

// note notes whether there was an answer.
func (l *patientLock) note(err error) {
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

// isAway tells an answer, if only a refusal, from none.
func isAway(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	status, answered := errors.AsType[*apierrors.StatusError](err)
	return !answered || status.Status().Code >= 500 || apierrors.IsTooManyRequests(err)
}
