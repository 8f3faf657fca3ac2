package use

import (
	"errors"
	"io"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/internal/driver"
)

// subject returns what every audit line says. A pod has a key for its own namespace.
func (u *Use) subject() []any {
	line := []any{
		"user", driver.Sanitize(u.UserName()), "namespace", driver.Sanitize(u.PoolName.Namespace), "pool", driver.Sanitize(u.PoolName.Name),
		"target", driver.Sanitize(u.Target), "subresource", u.permission.Subresource, "transport", u.Transport,
		"requestID", u.RequestID,
	}
	for _, fact := range [][2]string{
		{"session", u.Session},
		{"method", u.Method},
		{"path", u.Path},
		{"container", u.Place.Container},
		{"pod", u.Place.Pod},
		{"podNamespace", u.Place.Namespace},
	} {
		if fact[1] != "" {
			line = append(line, fact[0], driver.Sanitize(fact[1]))
		}
	}
	return line
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
	u.Audit("use refused", "code", code, "reason", reason, "message", driver.Sanitize(err.Error()))
}

// AuditStarted notes that there is a lease. command is nil when the use runs none.
func (u *Use) AuditStarted(lease LeaseInfo, command *driver.Command) {
	facts := lease.Facts()
	if u.Gate.Config.AuditCommands && command != nil {
		facts = append(facts, "command", wordsOf(*command))
	}
	u.Audit("use started", facts...)
}

// AuditEnded notes how the use ended.
func (u *Use) AuditEnded(r *Result, t *Traffic) {
	facts := append(r.Lease.Facts(), "duration", r.Duration,
		"outcome", r.Outcome, "reason", r.Reason, "bytesIn", t.In.Load(), "bytesOut", t.Out.Load())
	switch {
	case r.HTTPStatus != 0:
		facts = append(facts, "status", r.HTTPStatus)
	case r.Completed():
		facts = append(facts, "exitCode", r.Code)
	}
	u.Audit("use ended", facts...)
}

func wordsOf(command driver.Command) []string {
	switch {
	case command.Shell != "":
		return []string{driver.Sanitize(command.Shell)}
	case command.Subsystem != "":
		return []string{driver.Sanitize(command.Subsystem)}
	}
	safe := make([]string, len(command.Argv))
	for i, word := range command.Argv {
		safe[i] = driver.Sanitize(word)
	}
	return safe
}

// Traffic counts bytes: In goes to the target, Out comes from it.
type Traffic struct{ In, Out atomic.Int64 }

// Count puts counters around streams.
func (t *Traffic) Count(streams driver.Streams) driver.Streams {
	if streams.Stdin != nil {
		streams.Stdin = CountedReader{streams.Stdin, &t.In}
	}
	if streams.Stdout != nil {
		streams.Stdout = countedWriter{streams.Stdout, &t.Out}
	}
	if streams.Stderr != nil {
		streams.Stderr = countedWriter{streams.Stderr, &t.Out}
	}
	return streams
}

// CountedReader adds to N what is read.
type CountedReader struct {
	io.Reader

	N *atomic.Int64
}

// Read implements io.Reader.
func (r CountedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.N.Add(int64(n))
	return n, err
}

type countedWriter struct {
	io.Writer

	n *atomic.Int64
}

func (w countedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n.Add(int64(n))
	return n, err
}
