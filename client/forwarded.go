package client

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

// lastWords is how long the end of a connection waits: for the reason why
// nothing came, and for the other side to end it too.
const lastWords = time.Second

var _ net.Conn = (*forwarded)(nil)

// forwarded is one connection in a port-forward: a stream for its data, and one
// on which the server says what went wrong.
type forwarded struct {
	forwarder      *Forwarder
	data, problems httpstream.Stream
	// told is closed when problems has ended; problem is what it said.
	told    chan struct{}
	problem error
	// heard: data has come. ended: the server sends no more. expired: a deadline
	// has passed.
	heard, ended, expired atomic.Bool

	// mu guards the rest, and that nothing is written after the end.
	mu          sync.Mutex
	writeClosed bool
	closed      bool
	timers      [2]*time.Timer
}

func newForwarded(forwarder *Forwarder, data, problems httpstream.Stream) *forwarded {
	c := &forwarded{forwarder: forwarder, data: data, problems: problems, told: make(chan struct{})}
	go func() {
		defer close(c.told)
		c.problem = forwarder.refusedAtTarget(problems)
	}()
	return c
}

// Read reads what the target's side sends. If that is nothing because nobody
// listens there, the error says so.
func (c *forwarded) Read(p []byte) (int, error) {
	n, err := c.data.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	if err == nil {
		return n, nil
	}
	return n, c.readError(err)
}

func (c *forwarded) readError(err error) error {
	switch {
	case c.expired.Load():
		return os.ErrDeadlineExceeded
	case c.isClosed():
		return net.ErrClosed
	}
	c.ended.Store(true)
	if !c.heard.Load() {
		// The reason was sent first, but on another stream. A server that accepts,
		// says nothing and goes on listening has none.
		select {
		case <-c.told:
		case <-time.After(lastWords):
		}
	}
	select {
	case <-c.told:
		if c.problem != nil {
			return c.problem
		}
	default:
	}
	if c.forwarder.lost() {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *forwarded) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Write sends to the target's side.
func (c *forwarded) Write(p []byte) (int, error) {
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

func (c *forwarded) writeFrame(p []byte) (int, error) {
	c.mu.Lock()
	ended := c.writeClosed
	c.mu.Unlock()
	switch {
	case c.expired.Load():
		return 0, os.ErrDeadlineExceeded
	case ended:
		return 0, net.ErrClosed
	}
	return c.data.Write(p)
}

// CloseWrite says that nothing more will be written. Reading goes on. It must
// not be called beside a Write.
func (c *forwarded) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeClosed {
		return nil
	}
	c.writeClosed = true
	return c.data.Close()
}

// Close ends both directions; what was written still arrives.
func (c *forwarded) Close() error {
	err := c.CloseWrite()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return err
	}
	c.closed = true
	c.stopTimers()
	if c.ended.Load() {
		c.forget()
		return err
	}
	go c.linger()
	return err
}

// linger gives the other side the time to end the connection by itself. Nothing
// may be left unread, or it would stop the neighbors.
func (c *forwarded) linger() {
	defer time.AfterFunc(lastWords, c.cancel).Stop()
	_, _ = io.Copy(io.Discard, c.data)
	c.forget()
}

// abort ends both directions at once.
func (c *forwarded) abort() {
	c.mu.Lock()
	c.writeClosed, c.closed = true, true
	c.stopTimers()
	c.mu.Unlock()
	c.cancel()
	c.forget()
}

// cancel tells the server that we want no more. A Reset alone would not, after
// the end of our own direction.
func (c *forwarded) cancel() {
	if stream, ok := c.data.(interface{ Cancel() error }); ok {
		_ = stream.Cancel()
	}
	_ = c.data.Reset()
}

func (c *forwarded) forget() {
	_, _ = c.data.Reset(), c.problems.Reset()
	c.forwarder.streams.RemoveStreams(c.data, c.problems)
}

// LocalAddr is no address of this machine: the connection begins here.
func (c *forwarded) LocalAddr() net.Addr { return address("") }

// RemoteAddr is the address as given to Forward.
func (c *forwarded) RemoteAddr() net.Addr { return address(c.forwarder.address) }

// SetDeadline sets both deadlines.
func (c *forwarded) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline ends the connection at t, unless it is set again before.
func (c *forwarded) SetReadDeadline(t time.Time) error { return c.setTimer(0, t) }

// SetWriteDeadline ends the connection at t, unless it is set again before.
func (c *forwarded) SetWriteDeadline(t time.Time) error { return c.setTimer(1, t) }

func (c *forwarded) setTimer(which int, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if timer := c.timers[which]; timer != nil {
		timer.Stop()
	}
	if c.timers[which] = nil; !t.IsZero() {
		c.timers[which] = time.AfterFunc(time.Until(t), c.expire)
	}
	return nil
}

func (c *forwarded) expire() {
	c.expired.Store(true)
	c.abort()
}

func (c *forwarded) stopTimers() {
	for _, timer := range c.timers {
		if timer != nil {
			timer.Stop()
		}
	}
}

// address is an address as seen from a target.
type address string

// Network is no network that the net package could dial.
func (address) Network() string { return "connpool" }

// String is the address as it was given.
func (a address) String() string { return string(a) }
