package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/flowcontrol"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keepalive"
	"github.com/connpool/connpool/internal/driver/standby"
)

// errUnused ends a client without references.
var errUnused = errors.New("the client has no connections")

// minProbeGap is the least time between an answer and a ping that no caller asked
// for: a server may close every socket after one answer.
const minProbeGap = time.Second

// client is what connections with the same config share. It lives as long as it
// has references and the server answers. Its context's cause says why it ended.
type client struct {
	options   Options
	config    *config
	ctx       context.Context //nolint:containedctx // done when the client has ended
	cancel    context.CancelCauseFunc
	transport *http.Transport // for what needs no socket of its own
	limiter   flowcontrol.RateLimiter
	spares    *standby.Standby[*socket]
	monitor   *keepalive.Monitor[*answer]
	secure    *secure

	mu         sync.Mutex              // guards what follows
	references map[*reference]struct{} // the connections that keep it alive
	sockets    map[*tracked]struct{}
}

// reference is a connection that keeps a client alive. The client may dial with its
// DialFunc.
type reference struct{ dial driver.DialFunc }

func newClient(options Options, config *config) (*client, error) {
	secure, err := newSecure(config)
	if err != nil {
		return nil, err
	}
	c := &client{
		options: options, config: config, secure: secure,
		limiter:    flowcontrol.NewTokenBucketRateLimiter(options.QPS, options.Burst),
		references: map[*reference]struct{}{}, sockets: map[*tracked]struct{}{},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.spares = c.newSpares()
	c.transport = c.newTransport()
	c.monitor = keepalive.New(keepalive.Options[*answer]{
		Address: config.address, Interval: config.keepalive.interval, MinGap: minProbeGap,
		Ask: c.ping, Answered: c.handlePing,
	})
	c.monitor.Start()
	return c, nil
}

// retain adds a reference.
func (c *client) retain(dial driver.DialFunc) *reference {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := &reference{dial: dial}
	c.references[ref] = struct{}{}
	return ref
}

// release removes a reference and reports whether it was the last one.
func (c *client) release(ref *reference) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.references, ref)
	return len(c.references) == 0
}

// anyDialFunc returns the DialFunc of one of the references.
func (c *client) anyDialFunc() driver.DialFunc {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref := range c.references {
		return ref.dial
	}
	return func(context.Context, string, string) (net.Conn, error) { return nil, errUnused }
}

// newTransport makes the HTTP transport, which dials when it has to. It neither
// compresses nor follows redirects, and ignores the environment's HTTP proxies.
func (c *client) newTransport() *http.Transport {
	transport := &http.Transport{
		DialTLSContext:         c.dialTransport,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    spareSockets, // where the server speaks HTTP/1.1 only
	}
	if c.config.keepalive.interval > 0 {
		transport.HTTP2 = &http.HTTP2Config{
			SendPingTimeout: c.config.keepalive.interval, PingTimeout: c.config.keepalive.timeout,
		}
	}
	return transport
}

// dialTransport dials for the transport. The context is that of the first request that
// needs the socket. It is not kept, because others may use the socket later.
func (c *client) dialTransport(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() //nolint:contextcheck // whichever ends first
	raw, err := c.connect(ctx, c.anyDialFunc())
	if err != nil {
		return nil, err
	}
	socket := &tracked{Conn: raw, client: c}
	if !c.track(socket) {
		_ = raw.Close()
		return nil, c.death(driver.StageConnect, false)
	}
	return c.handshake(ctx, socket, c.secure.requests)
}

// tracked is a socket of the transport. The client is told of its end.
type tracked struct {
	net.Conn

	client *client
	lost   atomic.Bool // a Read has failed
}

// Read implements net.Conn.
func (t *tracked) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil {
		t.lost.Store(true)
	}
	return n, err
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	if last := t.client.forget(t); last && t.lost.Load() {
		t.client.monitor.Suspect()
	}
	return t.Conn.Close()
}

func (c *client) track(socket *tracked) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.sockets[socket] = struct{}{}
	return true
}

// forget reports whether the socket was the last one.
func (c *client) forget(socket *tracked) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.sockets[socket]
	delete(c.sockets, socket)
	return known && len(c.sockets) == 0
}

// end closes all that the client has. The first cause counts.
func (c *client) end(cause error) {
	c.cancel(cause)
	c.monitor.Stop()
	c.mu.Lock()
	sockets := c.sockets
	c.sockets = nil
	c.mu.Unlock()
	for socket := range sockets {
		_ = socket.Conn.Close()
	}
	c.transport.CloseIdleConnections()
	c.spares.Close()
}

// death says why an operation on an ended client failed.
func (c *client) death(stage driver.Stage, started bool) *driver.Error {
	return driver.Ended(context.Cause(c.ctx), c.config.address, stage, started)
}

// admit waits until the rate limit lets one more request begin.
func (c *client) admit(ctx context.Context) *driver.Error {
	err := c.limiter.Wait(ctx)
	if err == nil {
		return nil
	}
	result := driver.Errorf(driver.Timeout, driver.StageSession,
		"too much is begun at once with these credentials, and the caller could not wait for its turn; ask for less at the same time")
	if ctx.Err() != nil {
		result.Message = "the caller gave up before its turn"
	}
	result.Err = err
	return result
}
