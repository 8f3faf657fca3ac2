package docker

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// keepaliveGrace is how many further timeouts a keepalive may take while other
	// bytes keep arriving: a slow path that is full is not a dead one.
	keepaliveGrace = 5
	// signalTimeout bounds how long closing waits for what it has signaled. The
	// signal is a command of its own.
	signalTimeout = time.Second
	// idleSockets and idleTimeout bound the sockets that requests leave behind.
	idleSockets = 8
	idleTimeout = 90 * time.Second
)

// conn implements driver.Conn.
type conn struct {
	dialer    *dialer
	options   Options
	endpoint  driver.Endpoint
	sockets   *sockets
	transport *http.Transport
	client    *client.Client
	version   string          // of the engine's API
	ctx       context.Context //nolint:containedctx // driver.Conn asks for it
	cancel    context.CancelCauseFunc
	info      driver.Info
	roundTrip atomic.Int64
	closing   atomic.Bool // what ends from now on was ended by us

	mu      sync.Mutex // guards what follows
	pinging *ping
	timer   *time.Timer             // of the next keepalive
	running map[*execution]struct{} // commands that may have been started
}

func newConn(d *dialer) *conn {
	c := &conn{dialer: d, options: d.options, endpoint: d.endpoint, running: map[*execution]struct{}{}}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.sockets = newSockets(c.ctx, d, c.suspect)
	c.transport = &http.Transport{
		// The sockets come encrypted, so to net/http they are plain.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.sockets.take(ctx) },

		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleSockets,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
	return c
}

// establish begins the life of a connection whose dial has succeeded.
func (c *conn) establish(handshake time.Duration) {
	c.info.Handshake = handshake
	c.sockets.replenish()
	c.nextKeepalive()
}

// Context implements driver.Conn.
func (c *conn) Context() context.Context { return c.ctx }

// Info implements driver.Conn.
func (c *conn) Info() driver.Info {
	info := c.info
	info.RoundTrip = time.Duration(c.roundTrip.Load())
	return info
}

// Close implements driver.Conn. What runs is signaled to end: it would not notice
// that its streams are gone.
func (c *conn) Close() error {
	c.closing.Store(true)
	c.signalAll()
	c.end(context.Canceled)
	return nil
}

// signalAll sends every command its signal and gives it a moment to end.
func (c *conn) signalAll() {
	if c.ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	running := slices.Collect(maps.Keys(c.running))
	c.mu.Unlock()
	if len(running) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, signalTimeout)
	defer cancel()
	for _, e := range running {
		go e.signal(ctx, askToEnd)
	}
	for _, e := range running {
		select {
		case <-e.ended:
		case <-ctx.Done():
			return
		}
	}
}

// starts notes a command that may run, until the function is called.
func (c *conn) starts(e *execution) (ends func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[e] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, e)
	}
}

// end closes all sockets, which frees whoever waits on one. The first cause
// counts.
func (c *conn) end(cause error) {
	c.cancel(cause)
	c.sockets.close()
	c.transport.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// death returns why an operation on an ended connection failed.
func (c *conn) death(stage driver.Stage, started bool) *driver.Error {
	<-c.ctx.Done()
	cause := context.Cause(c.ctx)
	result := &driver.Error{
		Reason: driver.Unreachable, Stage: stage, Started: started, Err: cause,
		Message: "the connection to " + c.endpoint.Address + " was closed",
	}
	if classified, ok := errors.AsType[*driver.Error](cause); ok {
		result.Reason, result.Message = classified.Reason, classified.Message
	}
	return result
}

// suspect asks for a sign of life, because a socket broke: the engine may close
// one that was idle, but when it has died all of them break. The next request or
// keepalive makes a new spare, not this: an engine that closes every socket at once
// would keep us dialing.
func (c *conn) suspect() {
	if c.ctx.Err() != nil {
		return
	}
	p := c.ping()
	go func() {
		timeout := time.NewTimer(c.options.StageTimeout)
		defer timeout.Stop()
		select {
		case <-p.answered:
			c.judge(p)
		case <-timeout.C:
			c.end(c.noSignOfLife())
		}
	}()
}

// judge ends a connection whose engine is gone, or is another one.
func (c *conn) judge(p *ping) {
	switch {
	case p.err != nil:
		c.end(because(p.err, notStarted(driver.Unreachable, driver.StageRun,
			"the connection to %s was lost; check that the Docker engine runs", c.endpoint.Address)))
	case p.version != c.version && p.status == "":
		c.end(notStarted(driver.Unreachable, driver.StageRun,
			"the engine at %s was replaced by one of another version", c.endpoint.Address))
	}
}

// ping is one round trip.
type ping struct {
	answered chan struct{}
	// What follows may be read then.
	err     error
	status  string // unless it is as it should be
	version string
}

// ping joins the round trip that is under way, or starts one, so that an engine
// that does not answer holds one request, however often it is asked.
func (c *conn) ping() *ping {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pinging == nil {
		c.pinging = &ping{answered: make(chan struct{})}
		go c.roundtrip(c.pinging)
	}
	return c.pinging
}

func (c *conn) roundtrip(p *ping) {
	begin := time.Now()
	if p.err = c.ask(p); p.err == nil {
		c.roundTrip.Store(int64(time.Since(begin)))
	}
	c.mu.Lock()
	c.pinging = nil
	c.mu.Unlock()
	close(p.answered)
}

// ask has no deadline of its own: those who wait have theirs, and end the
// connection.
func (c *conn) ask(p *ping) error {
	request, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "http://"+host+"/_ping", http.NoBody)
	if err != nil {
		return err
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		p.status = driver.Sanitize(response.Status)
	}
	p.version = driver.Sanitize(response.Header.Get("Api-Version"))
	_, err = io.CopyN(io.Discard, response.Body, maxHeader)
	if err == nil {
		return errors.New("the answer to a ping does not end")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Probe implements driver.Conn.
func (c *conn) Probe(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return c.death(driver.StageKeepalive, false)
	}
	p := c.ping()
	select {
	case <-p.answered:
	case <-ctx.Done():
		return because(ctx.Err(), notStarted(driver.Timeout, driver.StageKeepalive,
			"%s did not answer a probe in time; check that it is not overloaded", c.endpoint.Address))
	}
	c.judge(p)
	switch {
	case c.ctx.Err() != nil:
		return c.death(driver.StageKeepalive, false)
	case p.status != "":
		return notStarted(driver.ProtocolError, driver.StageKeepalive,
			"the engine answers /_ping with %s; look into its log", p.status)
	}
	return nil
}

// nextKeepalive sets the timer, while the connection lives.
func (c *conn) nextKeepalive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endpoint.KeepaliveInterval <= 0 || c.ctx.Err() != nil {
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(c.endpoint.KeepaliveInterval, c.keepalive)
		return
	}
	c.timer.Reset(c.endpoint.KeepaliveInterval)
}

// keepalive asks for a sign of life and comes back for the next one. It runs on
// a timer, so that an idle connection needs no goroutine for it.
func (c *conn) keepalive() {
	p := c.ping()
	for range keepaliveGrace {
		heard := c.sockets.heard.Load()
		timeout := time.NewTimer(c.endpoint.KeepaliveTimeout)
		select {
		case <-p.answered:
			timeout.Stop()
			c.judge(p)
			c.sockets.replenish()
			c.nextKeepalive()
			return
		case <-timeout.C:
		}
		if c.sockets.heard.Load() == heard {
			break
		}
	}
	c.end(c.noSignOfLife())
}

func (c *conn) noSignOfLife() *driver.Error {
	return notStarted(driver.Timeout, driver.StageKeepalive,
		"%s gave no sign of life; check the Docker engine, its host and the network", c.endpoint.Address)
}
