package kubestream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/streaming/pkg/httpstream"
)

// maxReportBytes bounds the text of a Report. What is longer says nothing more.
const maxReportBytes = 4 << 10

var _ net.Conn = (*Conn)(nil)

// Conn is a connection to a port: a stream for its data, and one on which the
// server reports what went wrong. A deadline that passes ends it for good, since
// SPDY streams have none of their own.
type Conn struct {
	forwarder         *Forwarder
	data, errorStream httpstream.Stream
	// reported is closed when the server's report is complete.
	reported chan struct{}
	report   string
	// ended means that the server sends no more data, expired that a deadline passed.
	ended, expired atomic.Bool

	// mu guards what follows, and makes sure that no data follows the end of this
	// direction.
	mu          sync.Mutex
	writeClosed bool
	closed      bool
	timers      [2]*time.Timer
}

func newConn(forwarder *Forwarder, data, report httpstream.Stream) *Conn {
	c := &Conn{forwarder: forwarder, data: data, errorStream: report, reported: make(chan struct{})}
	go func() {
		defer close(c.reported)
		text, _ := io.ReadAll(io.LimitReader(report, maxReportBytes))
		c.report = string(text)
	}()
	return c
}

// Read implements net.Conn. It returns io.EOF when the data has ended, for whatever
// reason: see Report and Lost.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.data.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	switch {
	case c.expired.Load():
		return 0, os.ErrDeadlineExceeded
	case c.isClosed():
		return 0, net.ErrClosed
	}
	c.ended.Store(true)
	return 0, err
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Report returns what the server says went wrong, or "". It waits at most so long
// for a report to be complete: that may come a little later than the end of the
// data, and does not come while the target only listens.
func (c *Conn) Report(wait time.Duration) string {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.reported:
	case <-timer.C:
	}
	select {
	case <-c.reported:
		return c.report
	default:
		return ""
	}
}

// Lost reports whether the connection to the server is lost or closed.
func (c *Conn) Lost() bool { return c.forwarder.Lost() }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := c.writeFrame(p[written:min(len(p), written+frameBytes)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (c *Conn) writeFrame(p []byte) (int, error) {
	c.mu.Lock()
	ended := c.writeClosed
	c.mu.Unlock()
	switch {
	case c.expired.Load():
		return 0, os.ErrDeadlineExceeded
	case ended:
		return 0, net.ErrClosed
	}
	n, err := c.data.Write(p)
	if err != nil && c.expired.Load() {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// CloseWrite ends this direction. Reading goes on. It must not be called while a
// Write is pending.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeClosed {
		return nil
	}
	c.writeClosed = true
	return c.data.Close()
}

// Close ends both directions. What was written still arrives.
func (c *Conn) Close() error {
	if c.forwarder.single {
		// The last frame is written at once, or never.
		defer time.AfterFunc(lastWords, c.forwarder.socket.Cut).Stop()
	}
	err := c.CloseWrite()
	if !c.markClosed() {
		return err
	}
	switch {
	case c.forwarder.single:
		_ = c.forwarder.socket.Close()
		c.forwarder.Close()
	case c.ended.Load():
		c.forget()
	default:
		go c.linger()
	}
	return err
}

// markClosed stops the timers, and reports whether the connection was open.
func (c *Conn) markClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, timer := range c.timers {
		if timer != nil {
			timer.Stop()
		}
	}
	open := !c.closed
	c.writeClosed, c.closed = true, true
	return open
}

// linger gives the server time to end the connection by itself. It reads what
// comes, because unread data would stop the other connections of the forwarder.
func (c *Conn) linger() {
	defer time.AfterFunc(lastWords, c.cancel).Stop()
	_, _ = io.Copy(io.Discard, c.data)
	c.forget()
}

// abort ends both directions at once.
func (c *Conn) abort() {
	if c.forwarder.single {
		c.forwarder.socket.Cut()
	}
	c.markClosed()
	c.cancel()
	c.forget()
}

// cancel tells the server that its data is not wanted any more. Reset does not,
// once this side has ended its own direction.
func (c *Conn) cancel() {
	if stream, ok := c.data.(interface{ Cancel() error }); ok {
		_ = stream.Cancel()
	}
	_ = c.data.Reset()
}

func (c *Conn) forget() {
	_, _ = c.data.Reset(), c.errorStream.Reset()
	c.forwarder.streams.RemoveStreams(c.data, c.errorStream)
}

// LocalAddr implements net.Conn: it is that of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.forwarder.socket.conn.LocalAddr() }

// RemoteAddr implements net.Conn: it is the server's.
func (c *Conn) RemoteAddr() net.Addr { return c.forwarder.socket.conn.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// SetReadDeadline ends the connection when the time comes, unless it is set again
// before.
func (c *Conn) SetReadDeadline(at time.Time) error { return c.setTimer(0, at) }

// SetWriteDeadline ends the connection when the time comes, unless it is set again
// before.
func (c *Conn) SetWriteDeadline(at time.Time) error { return c.setTimer(1, at) }

func (c *Conn) setTimer(which int, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if timer := c.timers[which]; timer != nil {
		timer.Stop()
	}
	if c.timers[which] = nil; !at.IsZero() {
		c.timers[which] = time.AfterFunc(time.Until(at), func() {
			c.expired.Store(true)
			c.abort()
		})
	}
	return nil
}
