package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
	"github.com/connpool/connpool/internal/driver/standby"
)

// spareSockets is how many sockets are kept ahead: one for the next command, one for a
// request at the same time.
const spareSockets = 2

var aLongTimeAgo = time.Unix(1, 0)

// socket is a byte stream to the engine, encrypted where the transport is TCP.
type socket struct {
	net.Conn

	wire *wire
}

// CloseWrite implements driver.HalfCloser.
func (s *socket) CloseWrite() error {
	return driver.CloseWrite(s.Conn)
}

// Close closes the transport. It does not send close_notify first, because that would
// wait for an engine that does not read.
func (s *socket) Close() error { return s.wire.Close() }

// wire is the transport of a socket, below TLS. It counts the bytes.
type wire struct {
	net.Conn

	sockets *sockets
	// release stops listening to the end of the connection, which closes the wire.
	release func() bool
	written atomic.Int64
	// encrypted is true if it carries TLS, which ends with close_notify.
	encrypted bool
}

// errCut is the end of a transport without close_notify. Between two TLS records,
// crypto/tls would take io.EOF for a proper end, and a cut stream for a whole one. It
// does the same with io.ErrUnexpectedEOF itself, so errCut only wraps that.
var errCut = fmt.Errorf("the transport ended before TLS did: %w", io.ErrUnexpectedEOF)

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.sockets.heard.Add(1)
	}
	if w.encrypted && errors.Is(err, io.EOF) {
		return n, errCut
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.written.Add(int64(len(p))) // the engine may have it before this is known
	n, err := w.Conn.Write(p)
	w.written.Add(int64(n - len(p)))
	return n, err
}

// CloseWrite implements driver.HalfCloser.
func (w *wire) CloseWrite() error {
	return driver.CloseWrite(w.Conn)
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.release()
	return w.Conn.Close()
}

// sockets dials the sockets of a connection, and some of them ahead. They end with the
// context, which wakes all who wait on one.
type sockets struct {
	dialer *dialer
	ctx    context.Context //nolint:containedctx // that of the connection
	ahead  *standby.Standby[*socket]
	// heard counts reads that brought something.
	heard atomic.Int64
}

// newSockets dials none yet. lost is called when a socket that was kept ahead ends:
// the engine may close one that was idle, but when it dies all of them end. Such a
// socket is not replaced before the next request or keepalive, because an engine that
// closes every new socket would keep the connection dialing.
func newSockets(ctx context.Context, d *dialer, lost func()) *sockets {
	s := &sockets{dialer: d, ctx: ctx}
	s.ahead = standby.New(standby.Options[*socket]{
		Count: spareSockets,
		Dial:  func() (*socket, error) { return s.dial(ctx, d.endpoint.Reopen) },
		Lost:  func(time.Duration) { lost() },
	})
	return s
}

// dial opens one socket on a transport that open makes.
func (s *sockets) dial(ctx context.Context, open driver.DialFunc) (*socket, error) {
	w, err := s.connect(ctx, open)
	if err != nil {
		return nil, err
	}
	if s.dialer.tls == nil {
		return &socket{Conn: w, wire: w}, nil
	}
	w.encrypted = true
	encrypted := tls.Client(w, s.dialer.tls)
	ctx, cancel := context.WithTimeout(ctx, s.dialer.options.StageTimeout)
	defer cancel()
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = w.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // rather than what closing made of it
		}
		return nil, tlsError(err, s.dialer.endpoint.Address)
	}
	return &socket{Conn: encrypted, wire: w}, nil
}

func (s *sockets) connect(ctx context.Context, open driver.DialFunc) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, s.dialer.options.StageTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)() //nolint:contextcheck // the connection has a life of its own
	endpoint := s.dialer.endpoint
	network, err := open(ctx, endpoint.Network, endpoint.Address)
	if err != nil {
		return nil, dialerr.Connect(err, endpoint.Address, hints)
	}
	//nolint:contextcheck // as above
	return &wire{
		Conn: network, sockets: s, release: context.AfterFunc(s.ctx, func() { _ = network.Close() }),
	}, nil
}

func (s *sockets) take(ctx context.Context) (*socket, error) {
	if ready, ok := s.ahead.Take(); ok {
		return ready, nil
	}
	return s.dial(ctx, s.dialer.endpoint.Reopen)
}

// stageDeadline bounds all reads and writes until lift is called.
func (s *socket) stageDeadline(options Options) (lift func()) {
	_ = s.SetDeadline(time.Now().Add(options.StageTimeout))
	return func() { _ = s.SetDeadline(time.Time{}) }
}
