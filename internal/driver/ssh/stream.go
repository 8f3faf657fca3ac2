package ssh

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// stream makes a net.Conn of a channel. The library's Read has no deadline and ends
// only when the server sends something, so it runs in a goroutine. What arrives after a
// deadline is kept for the next Read.
type stream struct {
	channel ssh.Channel
	conn    *conn
	remote  net.Addr

	closing      sync.Once
	closed       chan struct{}
	readDeadline deadline
	writeTimeout deadline

	// receiving has a place for the one that reads from the channel. The library wakes only
	// one reader when the channel ends, so a second one would wait for ever.
	receiving chan struct{}

	reading sync.Mutex // held by Read; guards what follows
	pending chan readResult
	rest    []byte
	restErr error
}

type readResult struct {
	data []byte
	err  error
}

const maxRead = 32 << 10

func newStream(conn *conn, channel ssh.Channel, remote net.Addr) *stream {
	return &stream{
		channel: channel, conn: conn, remote: remote,
		closed: make(chan struct{}), receiving: make(chan struct{}, 1),
	}
}

func (s *stream) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if len(p) > 0 && len(s.rest) == 0 && s.restErr == nil {
		if err := s.fill(len(p)); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	if n == 0 && len(p) > 0 {
		return 0, s.end()
	}
	return n, nil
}

// end returns why nothing more can be read. Close counts before what the server did.
func (s *stream) end() error {
	select {
	case <-s.closed:
		return net.ErrClosed
	default:
		return s.restErr
	}
}

// fill waits for the next bytes or the end. It fails if the stream is closed or its
// deadline passes before.
func (s *stream) fill(size int) error {
	if s.pending == nil {
		s.pending = make(chan readResult, 1)
		go s.readInto(s.pending, make([]byte, min(size, maxRead)))
	}
	select {
	case <-s.closed:
		return net.ErrClosed
	case <-s.readDeadline.passed():
		return os.ErrDeadlineExceeded
	case result := <-s.pending:
		s.pending, s.rest, s.restErr = nil, result.data, result.err
		return nil
	}
}

func (s *stream) readInto(result chan<- readResult, buffer []byte) {
	s.receiving <- struct{}{}
	defer func() { <-s.receiving }()
	n, err := s.channel.Read(buffer)
	if err == io.EOF && s.conn.transport.ended.Load() { //nolint:errorlint // Read's contract
		err = io.ErrUnexpectedEOF // the connection ended, not the stream
	}
	result <- readResult{buffer[:n], err}
}

func (s *stream) Write(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	case <-s.writeTimeout.passed():
		return 0, os.ErrDeadlineExceeded
	default:
		return s.channel.Write(p)
	}
}

// CloseWrite implements driver.HalfCloser.
func (s *stream) CloseWrite() error { return s.channel.CloseWrite() }

// Close implements net.Conn. It does not wait for the server.
func (s *stream) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		go s.abandon()
	})
	return nil
}

// abandon ends with the connection at the latest.
func (s *stream) abandon() {
	_ = s.channel.Close()
	// What has come and was not read, up to 2 MiB, would otherwise be kept as long as the
	// owner of the stream keeps it. The server gets no further window for it.
	s.receiving <- struct{}{}
	defer func() { <-s.receiving }()
	_, _ = io.Copy(io.Discard, s.channel)
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return endpointAddr{s.remote.Network(), "ssh"} }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.readDeadline.set(t, nil)
	return nil
}

// SetWriteDeadline implements net.Conn, with one difference: a deadline that passes
// closes the stream, because a Write under way cannot be interrupted otherwise.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.writeTimeout.set(t, s.Close)
	return nil
}

type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{}
}

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

// set moves the deadline, and the zero time removes it. then is called when it passes,
// unless it is nil.
func (d *deadline) set(t time.Time, then func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() || d.done == nil {
		d.done = make(chan struct{}) // the old one has passed, or is about to
	}
	d.timer = nil
	if t.IsZero() {
		return
	}
	done := d.done
	d.timer = time.AfterFunc(time.Until(t), func() {
		close(done)
		if then != nil {
			_ = then()
		}
	})
}
