package kubestream

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/spdystream"
)

// maxReportBytes bounds the text of a Report. The rest of a longer one adds nothing.
const maxReportBytes = 4 << 10

var _ net.Conn = (*Conn)(nil)

// Conn is a connection to a port: a stream for its data, and one on which the server
// reports what went wrong. A deadline that passes ends it for good.
type Conn struct {
	deadlines

	forwarder         *Forwarder
	data, errorStream *spdystream.Stream
	input             io.Reader // of data
	// reported is closed when report is complete.
	reported chan struct{}
	report   string
	// ended means that the server sends no more data.
	ended, closed atomic.Bool

	mu          sync.Mutex // guards what follows, and is held while this direction is ended
	writeClosed bool
}

func newConn(forwarder *Forwarder, data, errorStream *spdystream.Stream) *Conn {
	c := &Conn{forwarder: forwarder, data: data, errorStream: errorStream, reported: make(chan struct{})}
	c.input = forwarder.guard.Counted(data)
	c.expire = c.abort
	go c.readReport()
	return c
}

// readReport keeps the beginning of a report. The rest would hold back other frames.
func (c *Conn) readReport() {
	from := c.forwarder.guard.Counted(c.errorStream)
	text, _ := io.ReadAll(io.LimitReader(from, maxReportBytes))
	c.report = string(text)
	close(c.reported)
	_, _ = io.Copy(io.Discard, from)
}

// Read implements net.Conn. It returns io.EOF when the data has ended for any reason:
// Report and Lost tell which.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.input.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	switch {
	case c.expired.Load():
		return 0, os.ErrDeadlineExceeded
	case c.closed.Load():
		return 0, net.ErrClosed
	}
	c.ended.Store(true)
	return 0, err
}

// Report returns what the server says went wrong, or "". It waits at most so long for
// a complete report. A report may come a little later than the end of the data. None
// comes while the target has ended only its own direction.
func (c *Conn) Report(wait time.Duration) string {
	select {
	case <-c.reported:
	case <-time.After(wait):
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

func (c *Conn) Write(p []byte) (int, error) {
	written := 0
	for part := range slices.Chunk(p, frameBytes) {
		n, err := c.writeFrame(part)
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

// CloseWrite ends this direction. Reading goes on. It must not be called while a Write
// is pending.
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
		// The last frame is written at once or not at all.
		defer time.AfterFunc(lastWords, c.forwarder.socket.Cut).Stop()
	}
	err := c.CloseWrite()
	if c.closed.Swap(true) {
		return err
	}
	c.stop()
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

// linger gives the server time to end the connection by itself. It reads what comes,
// because unread data would block the other connections of the forwarder.
func (c *Conn) linger() {
	defer time.AfterFunc(lastWords, c.cancel).Stop()
	_, _ = io.Copy(io.Discard, c.input)
	c.forget()
}

// abort ends both directions at once.
func (c *Conn) abort() {
	if c.forwarder.single {
		c.forwarder.socket.Cut()
	}
	c.closed.Store(true)
	c.stop()
	c.mu.Lock()
	c.writeClosed = true
	c.mu.Unlock()
	c.cancel()
	c.forget()
}

// cancel tells the server that its data is not wanted any more. Reset does not, once
// this side has ended its own direction.
func (c *Conn) cancel() { _, _ = c.data.Cancel(), c.data.Reset() }

func (c *Conn) forget() { c.forwarder.drop(c.data, c.errorStream) }

// LocalAddr implements net.Conn. It is that of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.forwarder.socket.conn.LocalAddr() }

// RemoteAddr implements net.Conn. It is the server's.
func (c *Conn) RemoteAddr() net.Addr { return c.forwarder.socket.conn.RemoteAddr() }

// deadlines are those of a connection that has none of its own. When one passes,
// the connection ends for good.
type deadlines struct {
	// expire ends the connection.
	expire func()
	// expired means that a deadline has passed.
	expired atomic.Bool

	mu      sync.Mutex // guards what follows
	stopped bool
	timers  [2]*time.Timer
}

// SetDeadline implements net.Conn.
func (d *deadlines) SetDeadline(at time.Time) error {
	return errors.Join(d.SetReadDeadline(at), d.SetWriteDeadline(at))
}

// SetReadDeadline implements net.Conn.
func (d *deadlines) SetReadDeadline(at time.Time) error { return d.set(0, at) }

// SetWriteDeadline implements net.Conn.
func (d *deadlines) SetWriteDeadline(at time.Time) error { return d.set(1, at) }

func (d *deadlines) set(which int, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return net.ErrClosed
	}
	if timer := d.timers[which]; timer != nil {
		timer.Stop()
	}
	if !at.IsZero() {
		d.timers[which] = time.AfterFunc(time.Until(at), func() {
			d.expired.Store(true)
			d.expire()
		})
	}
	return nil
}

func (d *deadlines) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	for _, timer := range d.timers {
		if timer != nil {
			timer.Stop()
		}
	}
}
