package kube

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

// network opens the byte streams of a client, and knows those of its transport.
type network struct {
	config  *config
	secure  *tls.Config     // of sockets, which cannot use HTTP/2
	timeout time.Duration   // of each stage
	ctx     context.Context //nolint:containedctx // the client's
	// lost is told that the last socket of the transport ended by itself.
	lost func()
	// sockets counts those of the transport.
	sockets atomic.Int64

	mu    sync.Mutex                // guards what follows
	conns map[*conn]driver.DialFunc // the connections that keep the client alive
}

func (n *network) retain(c *conn, dial driver.DialFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = dial
}

// release reports whether the connection was the last one.
func (n *network) release(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
	return len(n.conns) == 0
}

// endIdle ends the connections on which nothing runs. It reports whether none is left.
func (n *network) endIdle(cause error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	none := true
	for c := range n.conns {
		if c.running.Load() > 0 {
			none = false
			continue
		}
		c.cancel(cause)
	}
	return none
}

// anyDialFunc returns that of any connection, since each is the operator's own egress.
func (n *network) anyDialFunc() driver.DialFunc {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, dial := range n.conns {
		return dial
	}
	return func(context.Context, string, string) (net.Conn, error) { return nil, errUnused }
}

func (n *network) connect(ctx context.Context, dial driver.DialFunc) (net.Conn, error) {
	if err := n.config.checkTime(time.Now()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	raw, err := dial(ctx, "tcp", n.config.address)
	if err != nil {
		return nil, dialerr.Connect(err, n.config.address, hints)
	}
	return raw, nil
}

// handshake encrypts a byte stream. It closes the stream on failure.
func (n *network) handshake(ctx context.Context, raw net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	encrypted := tls.Client(raw, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, tlsError(err, n.config.address)
	}
	return encrypted, nil
}

func (n *network) open(ctx context.Context, dial driver.DialFunc) (*socket, error) {
	raw, err := n.connect(ctx, dial)
	if err != nil {
		return nil, err
	}
	encrypted, err := n.handshake(ctx, raw, n.secure)
	if err != nil {
		return nil, err
	}
	return newSocket(encrypted), nil
}

// maxUnreadBytes is how much of an answer may wait for its reader. It also bounds how much
// of one answer comes in a round trip.
const maxUnreadBytes = 1 << 20

// newTransport makes the HTTP transport, which dials when it has to. It neither
// compresses nor follows redirects, and ignores the environment's HTTP proxies.
func (n *network) newTransport() *http.Transport {
	transport := &http.Transport{
		DialTLSContext:         n.dialTransport,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    spareSockets, // where the server speaks HTTP/1.1 only
	}
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: maxUnreadBytes}
	if n.config.keepalive.interval > 0 {
		transport.HTTP2.SendPingTimeout, transport.HTTP2.PingTimeout = n.config.keepalive.interval, n.config.keepalive.timeout
	}
	return transport
}

// dialTransport dials for the transport. The context is that of the first request that
// needs the socket. It is not kept, because others may use the socket later.
func (n *network) dialTransport(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)() //nolint:contextcheck // whichever ends first
	raw, err := n.connect(ctx, n.anyDialFunc())
	if err != nil {
		return nil, err
	}
	if n.ctx.Err() != nil {
		_ = raw.Close()
		//nolint:contextcheck // it is the client's end that counts
		return nil, driver.Ended(context.Cause(n.ctx), n.config.address, driver.StageConnect, false)
	}
	n.sockets.Add(1)
	//nolint:contextcheck // as above
	socket := &tracked{Conn: raw, network: n, release: context.AfterFunc(n.ctx, func() { _ = raw.Close() })}
	config := n.secure.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	return n.handshake(ctx, socket, config)
}

// tracked is a socket of the transport. The network is told of its end, unless that
// was the client's.
type tracked struct {
	net.Conn

	network *network
	// release stops listening to the end of the client, which closes the socket. It
	// returns true once, and not after that end.
	release func() bool
	failed  atomic.Bool // a Read has failed
}

func (t *tracked) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil {
		t.failed.Store(true)
	}
	return n, err
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	if t.release() && t.network.sockets.Add(-1) == 0 && t.failed.Load() {
		t.network.lost()
	}
	return t.Conn.Close()
}
