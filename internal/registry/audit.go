package registry

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/internal/driver"
)

// subject is what every audit line says. The namespace of a pod has a key of its
// own beside that of the pool.
func (c *call) subject() []any {
	line := []any{
		"user", plain(c.userName()), "namespace", plain(c.pool.namespace), "pool", plain(c.pool.name),
		"target", plain(c.target), "subresource", c.permission.Subresource, "transport", c.transport,
		"requestID", c.requestID,
	}
	for _, fact := range [][2]string{
		{"session", c.session},
		{"method", c.method},
		{"path", c.path},
		{"container", c.place.Container},
		{"pod", c.place.Pod},
		{"podNamespace", c.place.Namespace},
	} {
		if fact[1] != "" {
			line = append(line, fact[0], plain(fact[1]))
		}
	}
	return line
}

func (c *call) auditRefused(err error) {
	code, reason := int32(0), "Unknown"
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		code, reason = status.Status().Code, string(status.Status().Reason)
	}
	c.Audit.Info("use refused", append(c.subject(), "code", code, "reason", reason, "message", plain(err.Error()))...)
}

// auditStarted notes that a lease is there and the use begins.
func (c *call) auditStarted(h held, command *driver.Command) {
	line := append(c.subject(), "connection", h.connection, "acquired", h.acquired, "wait", h.wait)
	if c.AuditCommands && command != nil {
		line = append(line, "command", words(*command))
	}
	c.Audit.Info("use started", line...)
}

// auditEnded notes how the use ended.
func (c *call) auditEnded(e ending, t *traffic) {
	line := append(c.subject(),
		"connection", e.connection, "acquired", e.acquired, "wait", e.wait, "duration", e.duration,
		"outcome", e.outcome, "reason", e.reason, "bytesIn", t.in.Load(), "bytesOut", t.out.Load())
	switch {
	case e.httpStatus != 0:
		line = append(line, "status", e.httpStatus)
	case e.completed():
		line = append(line, "exitCode", e.code)
	}
	c.Audit.Info("use ended", line...)
}

// auditRepeated notes that a request was answered with the result of an earlier
// one.
func (c *call) auditRepeated(waited time.Duration) {
	c.Audit.Info("use repeated", append(c.subject(), "wait", waited)...)
}

// traffic counts bytes by their direction, seen from the target.
type traffic struct{ in, out atomic.Int64 }

// count puts counters around streams.
func (t *traffic) count(streams driver.Streams) driver.Streams {
	if streams.Stdin != nil {
		streams.Stdin = countedReader{streams.Stdin, &t.in}
	}
	if streams.Stdout != nil {
		streams.Stdout = countedWriter{streams.Stdout, &t.out}
	}
	if streams.Stderr != nil {
		streams.Stderr = countedWriter{streams.Stderr, &t.out}
	}
	return streams
}

type countedReader struct {
	io.Reader
	n *atomic.Int64
}

// Read implements io.Reader.
func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}

type countedWriter struct {
	io.Writer
	n *atomic.Int64
}

// Write implements io.Writer.
func (w countedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n.Add(int64(n))
	return n, err
}
