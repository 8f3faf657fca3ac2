package use

import (
	"context"
	"errors"
	"net/http"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/naming"
)

// Reasons of a use that the operator ends, beside those of the drivers.
const (
	// ReasonRevoked surfaces when the user may not use the pool any longer.
	ReasonRevoked = "PermissionRevoked"
	// ReasonShutdown surfaces when the operator stops before the use has ended.
	ReasonShutdown = "ShuttingDown"
)

// Causes with which the context of a use ends.
var (
	// ErrRevoked says that the user has lost the permission.
	ErrRevoked = errors.New("the permission was revoked")
	// ErrShutdown says that the operator stops and waits no longer.
	ErrShutdown = errors.New("the operator is shutting down")
	// ErrTimeout says that the timeoutSeconds of a command have passed.
	ErrTimeout = errors.New("timeoutSeconds have passed")
)

// LeaseInfo describes a lease. A lease itself must not be asked once it has ended.
type LeaseInfo struct {
	Target, Connection string
	Acquired           live.Acquired
	Wait               time.Duration
}

// LeaseInfo describes a lease of the route.
func (r Route) LeaseInfo(lease poolset.Lease) LeaseInfo {
	return r.LeaseInfoFor(poolset.Execution{
		Target: lease.Target, Connection: lease.ID(), How: lease.How(), Wait: lease.Wait(),
	})
}

// LeaseInfoFor describes the lease of the route on which a command has run.
func (r Route) LeaseInfoFor(ran poolset.Execution) LeaseInfo {
	return LeaseInfo{
		Target:     ran.Target.Name,
		Connection: naming.Of(poolset.Ref{UID: string(r.pool.UID)}, ran.Target, ran.Connection).Name,
		Acquired:   [...]live.Acquired{live.AcquiredWarm, live.AcquiredQueued, live.AcquiredDialed}[ran.How],
		Wait:       ran.Wait,
	}
}

// Announce puts into the headers of an answer what is known before it.
func (l LeaseInfo) Announce(header http.Header, requestID string) {
	header.Set("Connpool-Connection", l.Connection)
	header.Set("Connpool-Target", l.Target)
	header.Set("Connpool-Acquired", string(l.Acquired))
	header.Set("Connpool-Request-Id", requestID)
}

// Facts are what audit lines say about a lease.
func (l LeaseInfo) Facts() []any {
	return []any{"connection", l.Connection, "acquired", l.Acquired, "wait", l.Wait}
}

// Result is how a use ended.
type Result struct {
	Lease    LeaseInfo
	Duration time.Duration
	Outcome  live.Outcome
	// Reason and Message say why a use has not completed.
	Reason, Message string
	// Code and Signal are those of a command that has completed.
	Code   int
	Signal string
	// HTTPStatus of the answer to a proxied request.
	HTTPStatus int
}

// Completed reports whether the use has completed.
func (r *Result) Completed() bool { return r.Outcome == live.OutcomeCompleted }

// Conclude sets the outcome that follows from the error of the use, and why.
func (r *Result) Conclude(ctx context.Context, err error) {
	r.Outcome = live.Outcome(driver.OutcomeOf(err))
	if err != nil {
		r.Reason, r.Message = Why(ctx, err)
	}
}

// Why returns why a use ended: what the operator did comes before what the remote says.
func Why(ctx context.Context, err error) (reason, message string) {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrRevoked):
		return ReasonRevoked, "the permission was revoked; ask for the verb create on the subresource again"
	case errors.Is(cause, ErrShutdown):
		return ReasonShutdown, "the operator was shut down"
	case errors.Is(cause, ErrTimeout):
		return string(driver.Timeout), "its timeoutSeconds have passed and it was signaled to end"
	}
	classified := driver.AsError(err)
	return string(classified.Reason), classified.Error()
}

// EndWith ends a use with its connection, and the cause of that, until stop is called.
func EndWith(conn driver.Conn, end context.CancelCauseFunc) (stop func() bool) {
	return context.AfterFunc(conn.Context(), func() {
		cause := context.Cause(conn.Context())
		if errors.Is(cause, context.Canceled) {
			cause = &driver.Error{
				Reason: driver.Unreachable, Stage: driver.StageRun, Started: true,
				Message: "the connection was closed, because its pool or target was changed or deleted",
			}
		}
		end(cause)
	})
}
