package ssh

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keepalive"
	"github.com/connpool/connpool/internal/driver/running"
)

// keepaliveRequest is answered by every server, if only with a refusal.
const keepaliveRequest = "keepalive@openssh.com"

// signalTimeout bounds how long Close waits for the commands that it has signaled.
const signalTimeout = 250 * time.Millisecond

// conn implements driver.Conn. It costs one goroutine beside the library's three, and
// one for the channel that is open ahead.
type conn struct {
	options   Options
	endpoint  driver.Endpoint
	transport *transport
	client    ssh.Conn
	ctx       context.Context //nolint:containedctx // driver.Conn asks for it
	cancel    context.CancelCauseFunc
	info      driver.Info
	monitor   *keepalive.Monitor[struct{}]
	closing   atomic.Bool // Close was called, and is what ends the commands
	spare     spare
	listeners listeners
	running   running.Set // channels on which a command may run
}

func newConn(d *dialer, t *transport) *conn {
	c := &conn{options: d.options, endpoint: d.endpoint, transport: t}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.spare.conn, t.guard.End = c, c.end
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

// serve answers the server's requests until the connection ends. It accepts only the
// streams of listeners that were opened here.
func (c *conn) serve(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	for channels != nil || requests != nil {
		select {
		case channel, ok := <-channels:
			if !ok {
				channels = nil
				continue
			}
			if !c.listeners.take(channel) && !c.transport.guard.Add(1) {
				_ = channel.Reject(ssh.UnknownChannelType, "not asked for")
			}
		case request, ok := <-requests:
			if !ok {
				requests = nil
				continue
			}
			c.transport.guard.Decline(request)
		}
	}
	c.end(c.endError(c.client.Wait()))
}

func (c *conn) endError(err error) *driver.Error {
	if classified, ok := driver.Classified(err); ok { // a later key exchange showed another host key
		return classified
	}
	if isClosed(err) {
		return driver.Errorf(driver.Unreachable, driver.StageRun, "the connection to %s was lost", c.endpoint.Address).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageRun, "%s",
		driver.Sanitize("the connection to "+c.endpoint.Address+" broke: "+libraryText(err))).Because(err)
}

// death returns why an operation on an ended connection failed.
func (c *conn) death(stage driver.Stage, started bool) *driver.Error {
	<-c.ctx.Done()
	return driver.Ended(context.Cause(c.ctx), c.endpoint.Address, stage, started)
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
			"%s did not answer within %s; check that it is not overloaded", c.endpoint.Address, c.options.StageTimeout))
	})
}

func (c *conn) declareDead() {
	c.end(driver.Errorf(driver.Timeout, driver.StageKeepalive,
		"%s gave no sign of life; check the host and the network", c.endpoint.Address))
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
