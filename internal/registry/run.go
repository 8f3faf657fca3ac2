package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// Reasons of a use that the operator ends, beside those of the drivers.
const (
	// reasonRevoked surfaces when the user may not use the pool any longer.
	reasonRevoked = "PermissionRevoked"
	// reasonShutdown surfaces when the operator ends what outlasts its patience.
	reasonShutdown = "ShuttingDown"
)

// Reasons of the status that ends a stream, when the command has no exit code.
const (
	reasonNotStarted metav1.StatusReason = "CommandNotStarted"
	reasonUnknown    metav1.StatusReason = "CommandOutcomeUnknown"
)

// errTimeout ends a command after its own timeoutSeconds.
var errTimeout = errors.New("timeoutSeconds have passed")

// held says which lease a use has, and how it was got. A lease itself is not
// looked at any more once it has ended.
type held struct {
	target, connection string
	acquired           live.Acquired
	wait               time.Duration
}

func (c *call) holding(pool string, lease poolset.Lease) held {
	return c.heldAs(pool, lease.Target, lease.ID(), lease.How(), lease.Wait())
}

func (c *call) heldAs(pool string, target poolset.Ref, id uint64, how connpool.How, wait time.Duration) held {
	return held{
		target:     target.Name,
		connection: identityOf(poolset.Ref{UID: pool}, target, id).name,
		acquired:   [...]live.Acquired{live.AcquiredWarm, live.AcquiredQueued, live.AcquiredDialed}[how],
		wait:       wait,
	}
}

// announce puts into the headers of an upgrade what is known before it.
func (h held) announce(header http.Header, requestID string) {
	header.Set("Connpool-Connection", h.connection)
	header.Set("Connpool-Target", h.target)
	header.Set("Connpool-Acquired", string(h.acquired))
	header.Set("Connpool-Request-Id", requestID)
}

// ending is how a use ended.
type ending struct {
	held

	requestID string
	outcome   live.Outcome
	code      int
	// httpStatus of the answer to a proxied request.
	httpStatus      int
	signal          string
	reason, message string
	duration        time.Duration
}

func (e ending) completed() bool { return e.outcome == live.OutcomeCompleted }

// run runs a command on a lease and ends the lease. ctx is one of watch.
func (c *call) run(
	ctx context.Context, to route, lease poolset.Lease, command driver.Command, streams driver.Streams,
) ending {
	request := to.request()
	end := ending{held: c.holding(request.Pool, lease), requestID: c.requestID}
	c.auditStarted(end.held, &command)
	var bytes traffic
	began := time.Now()
	execution, err := c.Pools.ExecOn(ctx, lease, request, command, bytes.count(streams))
	if execution.Target.UID != "" { // a refused session may have led to another connection
		end.held = c.heldAs(request.Pool, execution.Target, execution.Connection, execution.How, execution.Wait)
	}
	end.duration = time.Since(began)
	end.code, end.signal = execution.Code, execution.Signal
	end.conclude(ctx, err)
	c.auditEnded(end, &bytes)
	return end
}

// conclude says in which of the three ways the use ended, and why.
func (e *ending) conclude(ctx context.Context, err error) {
	e.outcome = live.Outcome(driver.OutcomeOf(err))
	if err == nil {
		return
	}
	e.reason, e.message = because(ctx, err)
	if e.outcome == live.OutcomeUnknown {
		e.message = fmt.Sprintf("the command of request %s may have run and nobody knows how it ended: %s", e.requestID, e.message)
	} else {
		e.message = "the command was not started: " + e.message
	}
}

// because prefers what the operator did to what the remote made of it.
func because(ctx context.Context, err error) (reason, message string) {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errRevoked):
		return reasonRevoked, "the permission was revoked; ask for the verb create on the subresource again"
	case errors.Is(cause, errShutdown):
		return reasonShutdown, "the operator was shut down"
	case errors.Is(cause, errTimeout):
		return string(driver.Timeout), "its timeoutSeconds have passed and it was signaled to end"
	}
	classified := driver.AsError(err)
	return string(classified.Reason), classified.Error()
}

// status says it in the words of the remote command protocol. Clients look for
// the exit code, some of them in the first cause only.
func (e ending) status() *metav1.Status {
	status := &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{Causes: e.causes()}}
	switch {
	case e.completed() && e.code == 0:
		return status
	case e.completed():
		code := strconv.Itoa(max(0, min(e.code, 255)))
		exit := metav1.StatusCause{Type: remotecommand.ExitCodeCauseType, Message: code}
		status.Details.Causes = append([]metav1.StatusCause{exit}, status.Details.Causes...)
		status.Reason, status.Message = remotecommand.NonZeroExitCodeReason, "command terminated with exit code "+code
	case e.outcome == live.OutcomeNotStarted:
		status.Reason, status.Message = reasonNotStarted, e.message
	default:
		status.Reason, status.Message = reasonUnknown, e.message
	}
	status.Status = metav1.StatusFailure
	return status
}

func (e ending) causes() (causes []metav1.StatusCause) {
	for _, cause := range []metav1.StatusCause{
		{Type: live.CauseOutcome, Message: string(e.outcome)},
		{Type: live.CauseReason, Message: e.reason},
		{Type: live.CauseSignal, Message: e.signal},
		{Type: live.CauseTarget, Message: e.target},
		{Type: live.CauseConnection, Message: e.connection},
		{Type: live.CauseAcquired, Message: string(e.acquired)},
		{Type: live.CauseRequestID, Message: e.requestID},
		{Type: live.CauseAcquireMicroseconds, Message: strconv.FormatInt(e.wait.Microseconds(), 10)},
		{Type: live.CauseDurationMicroseconds, Message: strconv.FormatInt(e.duration.Microseconds(), 10)},
	} {
		if cause.Message != "" {
			causes = append(causes, cause)
		}
	}
	return causes
}

// result says it in the words of the JSON form, but for the output.
func (e ending) result() live.ExecStatus {
	status := live.ExecStatus{
		Outcome: e.outcome, Signal: e.signal, Reason: e.reason, Message: e.message,
		Target: e.target, Connection: e.connection, RequestID: e.requestID,
		Acquired: e.acquired, AcquireMicroseconds: e.wait.Microseconds(), DurationMicroseconds: e.duration.Microseconds(),
	}
	if e.completed() {
		status.ExitCode = new(int32(e.code))
	}
	return status
}
