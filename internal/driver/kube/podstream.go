package kube

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// reportWait is how long the end of the data waits for what the node says went
// wrong.
const reportWait = time.Second

// podStream is one connection to a port of a pod. It owns its socket.
type podStream struct {
	*kubestream.Conn

	conn *conn
	name string
	// release stops listening to the end of conn.
	release func() bool
}

var _ net.Conn = (*podStream)(nil)

func newPodStream(c *conn, socket *kubestream.Socket, opened *kubestream.Conn, name string) *podStream {
	return &podStream{Conn: opened, conn: c, name: name, release: context.AfterFunc(c.ctx, socket.Cut)}
}

// Read implements net.Conn.
func (s *podStream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = s.endError()
	}
	return n, err
}

// endError tells the end of the data from what went wrong: the node says that on
// another stream, at about the same time.
func (s *podStream) endError() error {
	if report := s.Report(reportWait); report != "" {
		return driver.Errorf(driver.Unreachable, driver.StageRun, "%s",
			driver.Sanitize(s.name+" cannot be reached; check that something listens there: "+report))
	}
	switch {
	case s.conn.ctx.Err() != nil:
		return s.conn.death(driver.StageRun, true)
	case s.Lost():
		return driver.Unknownf(driver.Unreachable, driver.StageRun, "the connection to %s was lost", s.conn.client.config.address)
	}
	return io.EOF
}

// Close implements net.Conn. What was written before still goes out.
func (s *podStream) Close() error {
	s.release()
	_ = s.Conn.Close()
	return nil
}
