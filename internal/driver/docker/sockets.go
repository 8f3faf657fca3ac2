package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// spareSockets is how many are kept ready: one for the next command, one for a
// request beside it.
const spareSockets = 2

// aLongTimeAgo ends a read at once.
var aLongTimeAgo = time.Unix(1, 0)

// errEnded is what a socket of a connection that has ended would be.
var errEnded = errors.New("the connection has ended")

// socket is a byte stream to the engine, encrypted where the transport is TCP.
type socket struct {
	net.Conn

	wire *wire
}

// CloseWrite ends what the engine reads.
func (s *socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the transport without the farewell of TLS, which waits for an
// engine that does not read.
func (s *socket) Close() error { return s.wire.Close() }

// wire is a socket's transport. It counts what passes, and its sockets forget it
// when it is closed.
type wire struct {
	net.Conn

	sockets *sockets
	written atomic.Int64
	// encrypted: what passes is TLS, which says farewell itself.
	encrypted bool
}

// errCut is the end of a transport without the farewell of TLS. crypto/tls would
// take it for a good end if it came between two records, and what was cut off for
// whole. It is not io.ErrUnexpectedEOF itself, which crypto/tls forgives, too.
var errCut = fmt.Errorf("the transport ended before TLS did: %w", io.ErrUnexpectedEOF)

// Read implements net.Conn.
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

// Write implements net.Conn.
func (w *wire) Write(p []byte) (int, error) {
	w.written.Add(int64(len(p))) // the engine may have it before this is known
	n, err := w.Conn.Write(p)
	w.written.Add(int64(n - len(p)))
	return n, err
}

// CloseWrite ends what the engine reads.
func (w *wire) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.sockets.forget(w)
	return w.Conn.Close()
}

// sockets are all sockets of a connection, those included that are ready for
// whoever needs one next.
type sockets struct {
	dialer *dialer
	ctx    context.Context //nolint:containedctx // that of the connection
	// lost is told that the engine closed a spare.
	lost func()
	// heard counts reads that brought something.
	heard atomic.Int64

	mu      sync.Mutex // guards what follows
	closed  bool
	open    map[*wire]struct{}
	spares  []*spare // the oldest first
	filling int
}

func newSockets(ctx context.Context, d *dialer, lost func()) *sockets {
	return &sockets{dialer: d, ctx: ctx, lost: lost, open: map[*wire]struct{}{}}
}

// dial opens one socket on a transport that open makes.
func (p *sockets) dial(ctx context.Context, open driver.DialFunc) (*socket, error) {
	w, err := p.connect(ctx, open)
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: w, wire: w}
	if p.dialer.tls == nil {
		return s, nil
	}
	w.encrypted = true
	encrypted := tls.Client(w, p.dialer.tls)
	ctx, cancel := context.WithTimeout(ctx, p.dialer.options.StageTimeout)
	defer cancel()
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = s.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // rather than what closing made of it
		}
		return nil, tlsError(err, p.dialer.endpoint.Address)
	}
	s.Conn = encrypted
	return s, nil
}

func (p *sockets) connect(ctx context.Context, open driver.DialFunc) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, p.dialer.options.StageTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)() //nolint:contextcheck // the connection has a life of its own
	endpoint := p.dialer.endpoint
	network, err := open(ctx, endpoint.Network, endpoint.Address)
	if err != nil {
		return nil, connectError(err, endpoint.Address)
	}
	w := &wire{Conn: network, sockets: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = network.Close()
		return nil, errEnded
	}
	p.open[w] = struct{}{}
	return w, nil
}

func (p *sockets) forget(w *wire) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, w)
}

// take returns a socket that nobody uses, and has the next one made ready.
func (p *sockets) take(ctx context.Context) (*socket, error) {
	defer p.replenish()
	for ready := p.pop(); ready != nil; ready = p.pop() {
		if ready.claim() {
			return ready.socket, nil
		}
	}
	return p.dial(ctx, p.dialer.endpoint.Reopen)
}

func (p *sockets) pop() *spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spares) == 0 {
		return nil
	}
	oldest := p.spares[0]
	p.spares = p.spares[1:]
	return oldest
}

// put makes a socket a spare.
func (p *sockets) put(s *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = s.wire.Conn.Close()
		return
	}
	ready := &spare{socket: s, ended: make(chan struct{})}
	p.spares = append(p.spares, ready)
	go p.watch(ready)
}

// watch notices that the engine closes a spare, and whoever does not speak when
// nobody has asked is no engine.
func (p *sockets) watch(s *spare) {
	defer close(s.ended)
	n, err := s.socket.Read(make([]byte, 1))
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		s.intact = true
		return
	}
	_ = s.socket.Close()
	if p.drop(s) {
		p.lost()
	}
}

// drop reports whether the spare was nobody's yet.
func (p *sockets) drop(s *spare) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, ready := range p.spares {
		if ready == s {
			p.spares = append(p.spares[:i:i], p.spares[i+1:]...)
			return !p.closed
		}
	}
	return false
}

// replenish makes spares in the background. Where that fails, whoever needs a
// socket dials, and learns why.
func (p *sockets) replenish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for missing := spareSockets - len(p.spares) - p.filling; missing > 0 && !p.closed; missing-- {
		p.filling++
		go p.fill()
	}
}

func (p *sockets) fill() {
	s, err := p.dial(p.ctx, p.dialer.endpoint.Reopen)
	p.mu.Lock()
	p.filling--
	p.mu.Unlock()
	if err == nil {
		p.put(s)
	}
}

// close closes all sockets, which frees whoever waits on one.
func (p *sockets) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.spares = nil
	for w := range p.open {
		_ = w.Conn.Close()
	}
	clear(p.open)
}

// spare is a socket that is ready, and read from until it is taken: the engine
// has nothing to say before it is asked, but it may close.
type spare struct {
	socket *socket
	ended  chan struct{} // the reading has
	intact bool          // may be read then
}

// claim ends the reading, and reports whether the socket can be used.
func (s *spare) claim() bool {
	_ = s.socket.SetReadDeadline(aLongTimeAgo)
	<-s.ended
	if !s.intact {
		return false
	}
	return s.socket.SetReadDeadline(time.Time{}) == nil
}

// stageDeadline bounds what is read and written until it is lifted.
func (s *socket) stageDeadline(options Options) (lift func()) {
	_ = s.SetDeadline(time.Now().Add(options.StageTimeout))
	return func() { _ = s.SetDeadline(time.Time{}) }
}

// firstStage is the first in which an engine itself can be awaited.
func (d *dialer) firstStage() driver.Stage {
	if d.tls == nil {
		return driver.StageSession
	}
	return driver.StageTLS
}
