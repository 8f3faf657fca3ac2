package ssh

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keepalive"
	"github.com/connpool/connpool/internal/driver/running"
	"github.com/connpool/connpool/internal/driver/ssh/knownhosts"
)

// keepaliveRequest is answered by every server, if only with a refusal.
const keepaliveRequest = "keepalive@openssh.com"

// signalTimeout bounds how long Close waits for the commands that it has signaled.
const signalTimeout = 250 * time.Millisecond

// conn implements driver.Conn. While it is idle it costs no goroutine beside the
// library's three. It keeps nothing of its endpoint but the address, because there may be
// thousands of it.
type conn struct {
	options   Options
	address   string
	pins      *knownhosts.Pins
	attempt   atomic.Pointer[attempt] // nil when the handshake has ended
	transport *transport
	client    ssh.Conn
	ctx       context.Context //nolint:containedctx // driver.Conn asks for it
	cancel    context.CancelCauseFunc
	info      driver.Info
	monitor   *keepalive.Monitor[struct{}]
	closing   atomic.Bool // Close was called, and is what ends the commands
	spare     spare
	attendant attendant
	listeners listeners
	running   running.Set // channels on which a command may run
}

func newConn(d *dialer, t *transport) *conn {
	c := &conn{options: d.options, address: d.endpoint.Address, pins: d.pins, transport: t}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.spare.conn, t.guard.End = c, c.end
	c.attendant.conn, c.attendant.sessions, t.wake = c, make(chan *sessionChannel, 1), c.attendant.wake
	c.monitor = keepalive.New(keepalive.Options[struct{}]{
		Address: d.endpoint.Address, Interval: d.endpoint.KeepaliveInterval, Timeout: d.endpoint.KeepaliveTimeout,
		Ask: func() (struct{}, error) { // it ends with the connection at the latest
			_, _, err := c.client.SendRequest(keepaliveRequest, true, nil)
			t.guard.Answered()
			return struct{}{}, err
		},
		Heard: t.heard.Load, Dead: c.declareDead,
	})
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
// it. A server that takes no signals, or nothing at all, is not waited for longer.
func (c *conn) Close() error {
	c.closing.Store(true)
	ctx, cancel := context.WithTimeout(c.ctx, signalTimeout)
	defer cancel()
	c.running.End(ctx)
	c.end(context.Canceled)
	return nil
}

// end closes the transport, which wakes all who wait on it. The first cause counts.
func (c *conn) end(cause error) {
	c.cancel(cause)
	_ = c.transport.Close()
	c.monitor.Stop()
}

// checkHostKey is called in every key exchange, including those after the handshake.
func (c *conn) checkHostKey(address string, _ net.Addr, key ssh.PublicKey) error {
	if c.transport.guard.Rekeyed() {
		return errors.New("too many key exchanges")
	}
	if a := c.attempt.Load(); a != nil {
		return a.checkHostKey(address, key)
	}
	return c.pins.Check(address, key)
}

func (c *conn) endError(err error) *driver.Error {
	if classified, ok := driver.Classified(err); ok { // a later key exchange showed another host key
		return classified
	}
	if isClosed(err) {
		return driver.Errorf(driver.Unreachable, driver.StageRun, "the connection to %s was lost", c.address).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageRun, "%s",
		driver.Sanitize("the connection to "+c.address+" broke: "+libraryText(err))).Because(err)
}

// death returns why an operation on an ended connection failed.
func (c *conn) death(stage driver.Stage, started bool) *driver.Error {
	<-c.ctx.Done()
	return driver.Ended(context.Cause(c.ctx), c.address, stage, started)
}

// broken ends the connection, and returns why an operation failed with an error that
// is not an answer of the server.
func (c *conn) broken(err error, stage driver.Stage, started bool) *driver.Error {
	c.end(c.endError(err))
	return c.death(stage, started)
}

// deadline returns a timer that ends the connection unless it is stopped in time.
func (c *conn) deadline(stage driver.Stage) *time.Timer {
	return time.AfterFunc(c.options.StageTimeout, func() {
		c.end(driver.Errorf(driver.Timeout, stage,
			"%s did not answer within %s; check that it is not overloaded", c.address, c.options.StageTimeout))
	})
}

func (c *conn) declareDead() {
	c.end(driver.Errorf(driver.Timeout, driver.StageKeepalive,
		"%s gave no sign of life; check the host and the network", c.address))
}

// Probe implements driver.Conn.
func (c *conn) Probe(ctx context.Context) error {
	result, err := c.monitor.Probe(ctx)
	switch {
	case err != nil:
		return err
	case result.Err != nil:
		return c.broken(result.Err, driver.StageKeepalive, false)
	}
	return nil
}
