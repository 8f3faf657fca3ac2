package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keepalive"
	"github.com/connpool/connpool/internal/driver/running"
)

const (
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
	monitor   *keepalive.Monitor[pingAnswer]
	closing   atomic.Bool   // Close was called, and is what ends the commands
	running   running.Set   // commands that may have been started
	watch     watch         // of their containers
	helpers   chan struct{} // holds one element for each look at the processes of a container
}

func newConn(d *dialer) *conn {
	c := &conn{dialer: d, options: d.options, endpoint: d.endpoint, helpers: make(chan struct{}, maxHelpers)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.watch.conn = c
	c.sockets = newSockets(c.ctx, d, func() { c.monitor.Suspect() })
	c.monitor = keepalive.New(keepalive.Options[pingAnswer]{
		Address: d.endpoint.Address, Interval: d.endpoint.KeepaliveInterval, Timeout: d.endpoint.KeepaliveTimeout,
		SuspectTimeout: d.options.StageTimeout,
		Ask:            c.ping, Heard: c.sockets.heard.Load, Answered: c.handlePing, Alive: c.sockets.ahead.Replenish, Dead: c.declareDead,
	})
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

// Context implements driver.Conn.
func (c *conn) Context() context.Context { return c.ctx }

// Info implements driver.Conn.
func (c *conn) Info() driver.Info {
	info := c.info
	info.RoundTrip = c.monitor.RoundTrip()
	return info
}

// Close implements driver.Conn. What runs is signaled to end, and given a moment for
// it.
func (c *conn) Close() error {
	c.closing.Store(true)
	ctx, cancel := context.WithTimeout(c.ctx, signalTimeout)
	defer cancel()
	c.running.End(ctx)
	c.end(context.Canceled)
	return nil
}

// end closes all sockets, which wakes all who wait on one. The first cause counts.
func (c *conn) end(cause error) {
	c.cancel(cause)
	c.sockets.ahead.Close()
	c.transport.CloseIdleConnections()
	c.monitor.Stop()
}

// death returns why an operation on an ended connection failed.
func (c *conn) death(stage driver.Stage, started bool) *driver.Error {
	<-c.ctx.Done()
	return driver.Ended(context.Cause(c.ctx), c.endpoint.Address, stage, started)
}

type pingAnswer struct {
	version string
	problem string // the status, if it is not 200
}

// handlePing ends a connection whose engine is gone, or was replaced by one of another
// version.
func (c *conn) handlePing(result keepalive.Result[pingAnswer]) {
	switch answer := result.Answer; {
	case result.Err != nil:
		c.end(driver.Errorf(driver.Unreachable, driver.StageRun,
			"the connection to %s was lost; check that the Docker engine runs", c.endpoint.Address).Because(result.Err))
	case answer.version != c.version && answer.problem == "":
		c.end(driver.Errorf(driver.Unreachable, driver.StageRun,
			"the engine at %s was replaced by one of another version", c.endpoint.Address))
	}
}

// ping makes one round trip. It has no deadline of its own: the monitor has one, and
// ends the connection.
func (c *conn) ping() (pingAnswer, error) {
	response, err := c.transport.RoundTrip(pingRequest(c.ctx, ""))
	if err != nil {
		return pingAnswer{}, err
	}
	defer response.Body.Close()
	answer := pingAnswer{version: driver.Sanitize(response.Header.Get("Api-Version"))}
	if response.StatusCode != http.StatusOK {
		answer.problem = driver.Sanitize(response.Status)
	}
	_, err = io.CopyN(io.Discard, response.Body, maxHeader)
	switch {
	case err == nil:
		return pingAnswer{}, errors.New("the answer to a ping does not end")
	case errors.Is(err, io.EOF):
		return answer, nil
	}
	return pingAnswer{}, err
}

// pingRequest is a ping, of a version of the API if that is not empty. It cannot fail,
// because its URL is a plain one.
func pingRequest(ctx context.Context, version string) *http.Request {
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+version+"/_ping", http.NoBody)
	return request
}

// Probe implements driver.Conn.
func (c *conn) Probe(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return c.death(driver.StageKeepalive, false)
	}
	result, err := c.monitor.Probe(ctx)
	switch {
	case err != nil:
		return err
	case c.ctx.Err() != nil:
		return c.death(driver.StageKeepalive, false)
	case result.Answer.problem != "":
		return driver.Errorf(driver.ProtocolError, driver.StageKeepalive,
			"the engine answers /_ping with %s; see its log", result.Answer.problem)
	}
	return nil
}

func (c *conn) declareDead() {
	c.end(driver.Errorf(driver.Timeout, driver.StageKeepalive,
		"%s gave no sign of life; check the Docker engine, its host and the network", c.endpoint.Address))
}
