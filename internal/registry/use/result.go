package use

import (
	"context"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/stream"
)

// Reasons of a use that the operator ends, beside those of the drivers.
const (
	// ReasonRevoked surfaces when the user may not use the pool any longer.
	ReasonRevoked = "PermissionRevoked"
	// ReasonShutdown surfaces when the operator stops before the use has ended.
	ReasonShutdown = "ShuttingDown"
	// ReasonUnread surfaces when the client did not read the output and the operator
	// needed the memory in which it waited.
	ReasonUnread = "OutputUnread"
)

// Causes with which the context of a use ends.
var (
	// ErrRevoked says that the user has lost the permission.
	ErrRevoked = errors.New("the permission was revoked")
	// ErrShutdown says that the operator stops and waits no longer.
	ErrShutdown = errors.New("the operator is shutting down")
	// ErrStopped says that the client has stopped a command on many targets.
	ErrStopped = errors.New("the client has stopped it")
	// ErrTimeout says that the timeoutSeconds of a command have passed.
	ErrTimeout = errors.New("timeoutSeconds have passed")
)

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

	// left is set if the use has not completed because its client left.
	left bool
}

// Completed reports whether the use has completed.
func (r *Result) Completed() bool { return r.Outcome == live.OutcomeCompleted }

// Conclude sets the outcome that follows from the error of the use, and why.
func (r *Result) Conclude(ctx context.Context, err error) {
	r.Outcome = live.Outcome(driver.OutcomeOf(err))
	if err != nil {
		r.Reason, r.Message = Why(ctx, err)
		r.left = r.Reason == string(driver.Timeout) && stream.ClientLeft(context.Cause(ctx))
	}
}

// Why returns why a use ended: what the operator did comes before what the remote says.
func Why(ctx context.Context, err error) (reason, message string) {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrRevoked):
		return ReasonRevoked, "the permission was revoked, or the user's ServiceAccount was deleted; " +
			"ask for the verb create on the subresource again"
	case errors.Is(cause, ErrShutdown):
		return ReasonShutdown, "the operator was shut down"
	case errors.Is(cause, stream.ErrUnread):
		return ReasonUnread, "the client did not read the output, and the operator needed the memory that held it; " +
			"read it, or write it to a file on the target"
	case errors.Is(cause, ErrStopped):
		return live.ReasonStopped, "the client has stopped it"
	case errors.Is(cause, ErrTimeout):
		return string(driver.Timeout), "its timeoutSeconds have passed: " + driver.AsError(err).Message
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

// subject returns what every audit line says. A pod has a key for its own namespace.
func (u *Use) subject() []any {
	line := append(audit.User(u.User()),
		"namespace", audit.Name(u.PoolName.Namespace), "pool", audit.Name(u.PoolName.Name),
		"target", audit.Name(u.Target), "subresource", u.permission.Subresource, "transport", u.Transport,
		"requestID", audit.Name(u.RequestID),
	)
	for _, fact := range [][2]string{
		{"auditID", u.otherID()},
		{"session", u.Session},
		{"listing", u.Listing},
		{"method", u.Method},
		{"host", u.Host},
		{"socket", u.Socket},
		{"container", u.Place.Container},
		{"pod", u.Place.Pod},
		{"podNamespace", u.Place.Namespace},
	} {
		if fact[1] != "" {
			line = append(line, fact[0], audit.Name(fact[1]))
		}
	}
	if u.Path != "" {
		line = append(line, "path", audit.Exact(u.Path)) // whose end may matter most
	}
	return line
}

// otherID returns the ID in the API server's own log, if the client has chosen RequestID.
func (u *Use) otherID() string {
	if u.AuditID == u.RequestID {
		return ""
	}
	return u.AuditID
}

// Audit writes a line about the use.
func (u *Use) Audit(message string, facts ...any) {
	u.Gate.Config.Audit.Info(message, append(u.subject(), facts...)...)
}

// AuditRefused notes that nothing was started, and why.
func (u *Use) AuditRefused(err error) {
	code, reason := int32(0), "Unknown"
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		code, reason = status.Status().Code, string(status.Status().Reason)
	}
	message := driver.Sanitize(err.Error())
	u.Span.Fail(refusedBecause(err))
	u.Audit("use refused", "code", code, "reason", reason, "message", message)
	u.recordRefused(err, code, message)
}

// AuditStarted notes that there is a lease. command is nil when the use runs none. What
// the use transfers is counted in t.
func (u *Use) AuditStarted(lease LeaseInfo, command *driver.Command, t *traffic.Bytes) {
	facts := lease.Facts()
	var words []string
	if u.Gate.Config.AuditCommands && command != nil {
		words = wordsOf(*command)
		facts = append(facts, "command", audit.Words(words))
	}
	u.running = u.Span.Call(runningNames[u.permission.Subresource])
	u.running.SetWords("process.command_args", words)
	u.Audit("use started", facts...)
	u.recordStarted(u.action(), lease, words, t)
}

// AuditEnded notes how the use ended.
func (u *Use) AuditEnded(r *Result, t *traffic.Bytes) {
	facts := append(r.Lease.Facts(), "duration", r.Duration,
		"outcome", r.Outcome, "reason", r.Reason, "bytesIn", t.In.Load(), "bytesOut", t.Out.Load())
	switch {
	case r.HTTPStatus != 0:
		facts = append(facts, "status", r.HTTPStatus)
	case r.Completed():
		facts = append(facts, "exitCode", r.Code)
	}
	u.traceEnded(r)
	u.Audit("use ended", facts...)
	u.recordEnded(r)
	u.Figures.Ended(r.Reason, string(r.Outcome), r.left)
}

func wordsOf(command driver.Command) []string {
	switch {
	case command.Shell != "":
		return []string{command.Shell}
	case command.Subsystem != "":
		return []string{command.Subsystem}
	}
	return command.Argv
}

// LeaseInfo describes a lease. A lease itself must not be asked once it has ended.
type LeaseInfo struct {
	Target, Connection string
	// Container that the operator chose, because the request names none.
	Container string
	Acquired  live.Acquired
	Wait      time.Duration
	// What delivers signals, if they can be sent, and how the target was chosen, unless named.
	Signals live.SignalsBy
	Routing v1alpha1.PoolRouting
}

// Announce puts into the headers of an answer what is known before it.
func (l LeaseInfo) Announce(header http.Header, requestID string) {
	header.Set("Connpool-Connection", l.Connection)
	header.Set("Connpool-Target", l.Target)
	header.Set("Connpool-Acquired", string(l.Acquired))
	if l.Container != "" {
		header.Set("Connpool-Container", l.Container)
	}
	header.Set("Connpool-Request-Id", requestID)
	for name, value := range map[string]string{"Connpool-Routing": string(l.Routing), "Connpool-Signals": string(l.Signals)} {
		if value != "" {
			header.Set(name, value)
		}
	}
}

// Facts are what audit lines say about a lease.
func (l LeaseInfo) Facts() []any {
	return []any{"connection", l.Connection, "acquired", l.Acquired, "wait", l.Wait}
}
