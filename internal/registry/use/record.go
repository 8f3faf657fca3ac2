package use

import (
	"cmp"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/traffic"
)

// record returns what the history says of a use before it has ended.
func (u *Use) record(action live.UseAction) live.Use {
	return live.Use{
		ObjectMeta: metav1.ObjectMeta{Namespace: u.PoolName.Namespace},
		Pool:       u.PoolName.Name, Target: u.Target, User: u.UserName(), Action: action, Session: u.Session,
		Container: u.Place.Container, Pod: u.Place.Pod, PodNamespace: u.Place.Namespace,
		Method: u.Method, Path: u.Path, Host: u.Host, Socket: u.Socket,
		Transport: u.Transport, RequestID: u.RequestID,
	}
}

// action is what the use is in the history.
func (u *Use) action() live.UseAction {
	if u.Listing != "" {
		return live.UseListing
	}
	return live.UseAction(u.permission.Subresource)
}

// recordRefused remembers a refusal. A user without the permission could otherwise fill the
// history of a namespace.
func (u *Use) recordRefused(err error, code int32, message string) {
	if !u.admitted {
		return
	}
	refused := u.record(u.action())
	refused.Outcome, refused.HTTPStatus, refused.Message = live.OutcomeNotStarted, code, message
	refused.Reason = ReasonOf(err)
	u.Gate.History.Refuse(refused)
	u.Figures.Failed(cmp.Or(refused.Reason, "Unknown"), string(refused.Outcome))
}

// ReasonOf returns the reason of a refusal in one word; empty if it has none.
func ReasonOf(refusal error) string {
	return cmp.Or(string(reasonIn(refusal)), string(apierrors.ReasonForError(refusal)))
}

func (u *Use) recordStarted(action live.UseAction, lease LeaseInfo, command []string, t *traffic.Bytes) {
	started := u.record(action)
	started.Target, started.Connection = lease.Target, lease.Connection
	started.Acquired, started.AcquireMicroseconds = lease.Acquired, lease.Wait.Microseconds()
	started.Command = command
	u.entry = u.Gate.History.Begin(started, t.Counts)
}

func (u *Use) recordEnded(r *Result) {
	u.entry.End(func(ended *live.Use) {
		ended.Target, ended.Connection = r.Lease.Target, r.Lease.Connection
		ended.DurationMicroseconds, ended.Outcome, ended.Reason = r.Duration.Microseconds(), r.Outcome, r.Reason
		ended.HTTPStatus = int32(r.HTTPStatus)
		if r.HTTPStatus == 0 && r.Completed() && u.Listing == "" {
			ended.ExitCode = new(int32(r.Code))
		}
	})
}

// recordLost ends a use of which the operator itself has lost track. It does nothing
// if the use has ended.
func (u *Use) recordLost() {
	u.entry.End(func(ended *live.Use) {
		ended.Outcome, ended.Reason = live.OutcomeUnknown, string(driver.ProtocolError)
		u.Figures.Failed(ended.Reason, string(ended.Outcome))
	})
}

// RecordSession remembers that a session has started, and returns what takes how it ended.
func (u *Use) RecordSession(lease LeaseInfo) (end func(reason driver.Reason, duration time.Duration)) {
	u.recordStarted(live.UseSession, lease, nil, new(traffic.Bytes))
	entry := u.entry
	return func(reason driver.Reason, duration time.Duration) {
		entry.End(func(ended *live.Use) {
			ended.Reason, ended.DurationMicroseconds = string(reason), duration.Microseconds()
		})
	}
}
