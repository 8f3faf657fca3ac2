package kubestream

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// writeBuffers lends WebSockets a buffer for the time of one message.
var writeBuffers sync.Pool

// Socket is a WebSocket to a server, with a heartbeat. One goroutine reads, and
// any number write.
type Socket struct {
	conn      *websocket.Conn
	wire      *Wire
	pinger    *Pinger
	heartbeat Heartbeat

	sending sync.Mutex
	// begun and written count the messages of this side, before and after each.
	begun, written atomic.Int64
	// silent is set before the socket is cut because the server is dead.
	silent atomic.Bool

	cut     sync.Once
	closing sync.Once
	done    chan struct{} // closed by Cut
}

// Upgrade dials, and upgrades a request to one of the dialer's Subprotocols. The dialer
// must have a NetDialContext, or else a NetDialTLSContext that returns a *tls.Conn over a
// Wire. If the server refuses, the error is
// websocket.ErrBadHandshake, and the response is its answer. If ctx ends, the error is
// its cause.
func Upgrade(
	ctx context.Context, dialer websocket.Dialer, address string, header http.Header, heartbeat Heartbeat,
) (*Socket, *http.Response, error) {
	dialed := &dialed{stop: func() bool { return true }}
	dialed.follow(ctx, &dialer)
	// One byte names the channel.
	dialer.ReadBufferSize, dialer.WriteBufferSize, dialer.WriteBufferPool = frameBytes+1, frameBytes+1, &writeBuffers
	// While the dialer waits for the answer it ignores ctx, so AfterFunc ends it.
	conn, response, err := dialer.DialContext(context.WithoutCancel(ctx), address, header)
	switch {
	case !dialed.stop(), err != nil && ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case err != nil:
		return nil, response, err
	case !slices.Contains(dialer.Subprotocols, conn.Subprotocol()):
		closeAtOnce(dialed.wire)
		return nil, nil, fmt.Errorf("%w: %q", ErrSubprotocol, conn.Subprotocol())
	case response.Header.Get("Sec-WebSocket-Extensions") != "":
		closeAtOnce(dialed.wire)
		return nil, nil, ErrExtension
	}
	return newSocket(conn, dialed.wire, heartbeat), response, nil
}

// dialed is the connection of a dialer.
type dialed struct {
	wire *Wire
	// stop keeps the end of the context from closing it, and reports whether that was in time.
	stop func() bool
}

// follow lets d get the connection when the dialer has it. From then on, the end of the
// context closes it.
func (d *dialed) follow(ctx context.Context, dialer *websocket.Dialer) {
	use := func(wire *Wire) {
		d.wire = wire
		d.stop = context.AfterFunc(ctx, func() { closeAtOnce(wire) })
	}
	if dial := dialer.NetDialTLSContext; dial != nil {
		dialer.NetDialTLSContext = func(_ context.Context, network, address string) (net.Conn, error) {
			secure, err := dial(ctx, network, address)
			if layer, ok := secure.(*tls.Conn); ok {
				wire, _ := layer.NetConn().(*Wire)
				use(wire)
			}
			return secure, err
		}
		return
	}
	dial := dialer.NetDialContext
	dialer.NetDialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		use(NewWire(raw))
		return d.wire, nil
	}
}

func newSocket(conn *websocket.Conn, wire *Wire, heartbeat Heartbeat) *Socket {
	conn.SetReadLimit(maxMessageBytes)
	s := &Socket{conn: conn, wire: wire, pinger: NewPinger(conn), heartbeat: heartbeat, done: make(chan struct{})}
	go func() { _ = s.pinger.Run(s.done, heartbeat.Ping, s.pingDue) }() // a failure shows to the reader
	if heartbeat.Ping > 0 {
		go s.watch()
	}
	return s
}

func (s *Socket) watch() {
	if s.wire.Watch(s.done, s.heartbeat.Ping/2, s.heartbeat.Patience, s.wouldSend) {
		s.silent.Store(true)
		s.Cut()
	}
}

// wouldSend reports whether a server that lives would have sent something.
func (s *Socket) wouldSend() bool {
	return s.heartbeat.PeerPings || s.begun.Load() == s.pinger.answered.Load()
}

// pingDue numbers a ping by the messages that were sent before it.
func (s *Socket) pingDue() (number int64, yes bool) {
	return s.written.Load(), s.heartbeat.PeerPings || s.wire.Silence() > s.heartbeat.Ping
}

// next reads a whole message, so that a slow writer of the caller does not look
// like a silent server in the middle of it.
func (s *Socket) next(message *bytes.Buffer) error {
	message.Reset()
	_, reader, err := s.conn.NextReader()
	if err == nil {
		_, err = message.ReadFrom(reader) // SetReadLimit bounds it
	}
	if err != nil && s.silent.Load() {
		return fmt.Errorf("%w for %s", ErrSilent, s.heartbeat.Patience)
	}
	return err
}

// send writes one message.
func (s *Socket) send(message []byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.begun.Add(1)
	defer s.written.Add(1)
	return s.conn.WriteMessage(websocket.BinaryMessage, message)
}

// Cut ends the connection at once. It may be called again.
func (s *Socket) Cut() {
	s.cut.Do(func() { close(s.done) })
	closeAtOnce(s.conn.NetConn())
	_ = s.conn.Close()
}

// Close tells the server that the connection ends, if that is possible within a second,
// and ends it. Later calls wait for the first one. It never fails.
func (s *Socket) Close() error {
	s.closing.Do(func() {
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(lastWords))
		s.Cut()
	})
	return nil
}

// closeAtOnce closes the connection below TLS, because the end of TLS can take seconds.
func closeAtOnce(conn net.Conn) {
	for {
		layer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			_ = conn.Close()
			return
		}
		conn = layer.NetConn()
	}
}
