package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// ForwardPod implements driver.PodForwarder. Each stream has a socket of its own.
// The protocol cannot say that a connection succeeded: if nothing listens at the port,
// the first Read returns a *driver.Error. The stream is a driver.HalfCloser. A deadline
// that passes ends it for good.
func (c *conn) ForwardPod(ctx context.Context, pod driver.Place, port uint16) (net.Conn, error) {
	place, err := completePlace(pod, c.namespace)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, driver.Errorf(driver.NotFound, driver.StageStart, "0 is not a valid port of a pod (1-65535)")
	}
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	ended := c.use()
	stream, err := c.openForward(ctx, place, port)
	if err != nil {
		ended()
		return nil, c.preferConnError(ctx, err)
	}
	stream.ended = ended
	return stream, nil
}

func (c *conn) openForward(ctx context.Context, place driver.Place, port uint16) (*podStream, *driver.Error) {
	opening, done := joinContexts(ctx, c.ctx)
	defer done()
	socket, refused, err := c.upgrade(opening, podPath(place)+"/portforward", nil, kubestream.ForwardProtocol)
	if refused != nil {
		err = c.offer(opening, startError(c.client, refused, place), refused, place, nil)
	}
	if err != nil {
		return nil, err
	}
	return c.forward(opening, socket, fmt.Sprintf("port %d of pod %s", port, place.Pod), port)
}

func (c *conn) forward(ctx context.Context, socket *kubestream.Socket, name string, port uint16) (*podStream, *driver.Error) {
	ctx, cancel := context.WithTimeout(ctx, c.client.options.StageTimeout)
	defer cancel()
	opened, err := kubestream.DialSingle(ctx, socket, strconv.Itoa(int(port)))
	if errors.Is(err, kubestream.ErrClosed) {
		err = io.ErrUnexpectedEOF // as when the server ends any other socket
	}
	if err != nil {
		return nil, transportError(err, driver.StageStart, c.client.config.address)
	}
	return newPodStream(c, socket, opened, name), nil
}

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
	// ended tells conn that the stream has ended.
	ended func()
}

var _ net.Conn = (*podStream)(nil)

func newPodStream(c *conn, socket *kubestream.Socket, opened *kubestream.Conn, name string) *podStream {
	return &podStream{Conn: opened, conn: c, name: name, release: context.AfterFunc(c.ctx, socket.Cut)}
}

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
	s.ended()
	return nil
}
