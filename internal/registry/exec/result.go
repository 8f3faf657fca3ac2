package exec

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/use"
)

// Reasons of the status that ends a stream, when the command has no exit code.
const (
	reasonNotStarted metav1.StatusReason = "CommandNotStarted"
	reasonUnknown    metav1.StatusReason = "CommandOutcomeUnknown"
)

// streamStatus puts a result into the words of the remote command protocol. Clients
// look for the exit code, some of them in the first cause only.
func streamStatus(r *use.Result, requestID string) *metav1.Status {
	status := &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{Causes: causes(r, requestID)}}
	switch {
	case r.Completed() && r.Code == 0:
		return status
	case r.Completed():
		code := strconv.Itoa(max(0, min(r.Code, 255)))
		exit := metav1.StatusCause{Type: remotecommand.ExitCodeCauseType, Message: code}
		status.Details.Causes = append([]metav1.StatusCause{exit}, status.Details.Causes...)
		status.Reason, status.Message = remotecommand.NonZeroExitCodeReason, "command terminated with exit code "+code
	case r.Outcome == live.OutcomeNotStarted:
		status.Reason, status.Message = reasonNotStarted, r.Message
	default:
		status.Reason, status.Message = reasonUnknown, r.Message
	}
	status.Status = metav1.StatusFailure
	return status
}

func causes(r *use.Result, requestID string) (causes []metav1.StatusCause) {
	for _, cause := range []metav1.StatusCause{
		{Type: live.CauseOutcome, Message: string(r.Outcome)},
		{Type: live.CauseReason, Message: r.Reason},
		{Type: live.CauseSignal, Message: r.Signal},
		{Type: live.CauseTarget, Message: r.Lease.Target},
		{Type: live.CauseConnection, Message: r.Lease.Connection},
		{Type: live.CauseContainer, Message: r.Lease.Container},
		{Type: live.CauseAcquired, Message: string(r.Lease.Acquired)},
		{Type: live.CauseRequestID, Message: requestID},
		{Type: live.CauseAcquireMicroseconds, Message: strconv.FormatInt(r.Lease.Wait.Microseconds(), 10)},
		{Type: live.CauseDurationMicroseconds, Message: strconv.FormatInt(r.Duration.Microseconds(), 10)},
	} {
		if cause.Message != "" {
			causes = append(causes, cause)
		}
	}
	return causes
}

// execStatus puts a result into the words of the JSON form, but for the output.
func execStatus(r *use.Result, requestID string) *live.ExecStatus {
	status := &live.ExecStatus{
		Outcome: r.Outcome, Signal: r.Signal, Reason: r.Reason, Message: r.Message,
		Target: r.Lease.Target, Container: r.Lease.Container, Connection: r.Lease.Connection,
		RequestID: requestID, Acquired: r.Lease.Acquired,
		AcquireMicroseconds: r.Lease.Wait.Microseconds(), DurationMicroseconds: r.Duration.Microseconds(),
	}
	if r.Completed() {
		status.ExitCode = new(int32(r.Code))
	}
	return status
}
