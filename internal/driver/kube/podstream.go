package kube

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/streaming/pkg/httpstream"

	"github.com/connpool/connpool/internal/driver"
)

// podStream is one connection to a port of a pod: a stream for its data, and one
// on which the node says what went wrong.
type podStream struct {
	conn    *conn
	socket  *webSocket
	streams httpstream.Connection
	data    httpstream.Stream
	name    string
	ends    func() bool // stops listening to the end of the connection

	// told is closed when the node has no more to say; problem is what it said.
	told    chan struct{}
	problem string

	expired, closed atomic.Bool
	closing         sync.Once

	mu          sync.Mutex // guards what follows, and that nothing is written after the end
	writeClosed bool
	timers      [2]*time.Timer
}

var _ net.Conn = (*podStream)(nil)

func newPodStream(c *conn, socket *webSocket, streams httpstream.Connection, data, problems httpstream.Stream, name string) *podStream {
	s := &podStream{conn: c, socket: socket, streams: streams, data: data, name: name, told: make(chan struct{})}
	s.ends = context.AfterFunc(c.ctx, socket.hangUp)
	go func() {
		defer close(s.told)
		said, _ := io.ReadAll(io.LimitReader(problems, 4<<10)) // the rest of a message adds nothing
		s.problem = string(said)
	}()
	return s
}

// Read implements net.Conn.
func (s *podStream) Read(p []byte) (int, error) {
	n, err := s.data.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	return 0, s.readError()
}

// readError tells the end of the data from what went wrong: the node says it on
// the other stream, at about the same time.
func (s *podStream) readError() error {
	switch {
	case s.expired.Load():
		return os.ErrDeadlineExceeded
	case s.closed.Load():
		return net.ErrClosed
	}
	wait := time.NewTimer(lastWords)
	defer wait.Stop()
	select {
	case <-s.told:
	case <-s.streams.CloseChan():
	case <-wait.C:
	}
	if problem := s.said(); problem != "" {
		return notStarted(driver.Unreachable, driver.StageRun, "%s",
			driver.Sanitize(s.name+" cannot be reached; check that something listens there: "+problem))
	}
	switch {
	case s.conn.ctx.Err() != nil:
		return s.conn.death(driver.StageRun, true)
	case s.lost():
		return notStarted(driver.Unreachable, driver.StageRun, "the connection to %s was lost", s.conn.client.config.address)
	}
	return io.EOF
}

func (s *podStream) said() string {
	select {
	case <-s.told:
		return s.problem
	default:
		return ""
	}
}

// lost reports that the connection below has ended.
func (s *podStream) lost() bool {
	select {
	case <-s.streams.CloseChan():
		return true
	default:
		return false
	}
}

// Write implements net.Conn.
func (s *podStream) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := s.writeFrame(p[written:min(len(p), written+frameBytes)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (s *podStream) writeFrame(p []byte) (int, error) {
	s.mu.Lock()
	ended := s.writeClosed
	s.mu.Unlock()
	switch {
	case s.expired.Load():
		return 0, os.ErrDeadlineExceeded
	case ended, s.closed.Load():
		return 0, net.ErrClosed
	}
	n, err := s.data.Write(p)
	if err != nil && s.expired.Load() {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// CloseWrite ends our direction.
func (s *podStream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeClosed {
		return nil
	}
	s.writeClosed = true
	return s.data.Close()
}

// Close implements net.Conn. What was written before still goes out.
func (s *podStream) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.ends()
		_ = s.SetDeadline(time.Time{})
		// To say goodbye takes no time, or for ever.
		last := time.AfterFunc(lastWords, s.socket.hangUp)
		_ = s.CloseWrite()
		last.Stop()
		s.socket.goodbye()
		_ = s.streams.Close()
	})
	return nil
}

// LocalAddr implements net.Conn.
func (s *podStream) LocalAddr() net.Addr { return s.socket.LocalAddr() }

// RemoteAddr implements net.Conn: that of the API server.
func (s *podStream) RemoteAddr() net.Addr { return s.socket.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *podStream) SetDeadline(at time.Time) error {
	_ = s.SetReadDeadline(at)
	return s.SetWriteDeadline(at)
}

// SetReadDeadline implements net.Conn.
func (s *podStream) SetReadDeadline(at time.Time) error { return s.expireAt(0, at) }

// SetWriteDeadline implements net.Conn.
func (s *podStream) SetWriteDeadline(at time.Time) error { return s.expireAt(1, at) }

// expireAt ends the stream when a deadline passes: SPDY has none of its own.
func (s *podStream) expireAt(direction int, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if timer := s.timers[direction]; timer != nil {
		timer.Stop()
	}
	s.timers[direction] = nil
	if !at.IsZero() && !s.closed.Load() {
		s.timers[direction] = time.AfterFunc(time.Until(at), func() {
			s.expired.Store(true)
			s.socket.hangUp()
		})
	}
	return nil
}
