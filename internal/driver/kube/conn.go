package kube

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/connpool/connpool/internal/driver"
)

// conn implements driver.Conn: a share of a client. Only what runs on it costs
// goroutines or sockets.
type conn struct {
	client    *client
	namespace string
	ctx       context.Context //nolint:containedctx // driver.Conn asks for it
	cancel    context.CancelCauseFunc
	release   func()
	info      driver.Info
	// running counts the commands, port-forwards and requests that have not ended.
	running atomic.Int64
}

// use counts something that runs on the connection until it has ended.
func (c *conn) use() (ended func()) {
	c.running.Add(1)
	return sync.OnceFunc(func() { c.running.Add(-1) })
}

// Context implements driver.Conn.
func (c *conn) Context() context.Context { return c.ctx }

// Info implements driver.Conn.
func (c *conn) Info() driver.Info {
	info := c.info
	info.RoundTrip = c.client.monitor.RoundTrip()
	return info
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	c.cancel(context.Canceled)
	c.release()
	return nil
}

// Probe implements driver.Conn.
func (c *conn) Probe(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return c.death(driver.StageKeepalive, false)
	}
	result, err := c.client.monitor.Probe(ctx)
	switch {
	case err != nil:
		return err
	case result.Err != nil:
		return driver.AsError(result.Err) // all who wait get the same result
	}
	refused := c.client.config.answerError(result.Answer, driver.StageKeepalive)
	if refused == nil || c.lives(refused) {
		return nil
	}
	return refused
}

// lives reports whether the connection is as good as before although the server refused
// a probe: it throttles its clients, perhaps for a burst of their own, or what runs on
// the connection goes on with a credential that was replaced, see client.refused.
func (c *conn) lives(refused *driver.Error) bool {
	switch refused.Reason {
	case driver.ThrottledByServer:
		return true
	case driver.AuthenticationFailed:
		return c.running.Load() > 0 && c.ctx.Err() == nil && c.client.superseded(c.client)
	default:
		return false
	}
}

func (c *conn) death(stage driver.Stage, started bool) *driver.Error {
	return driver.Ended(context.Cause(c.ctx), c.client.config.address, stage, started)
}

// begin waits for the turn of a request. It returns why the request cannot begin, or
// nil.
func (c *conn) begin(ctx context.Context) *driver.Error {
	if c.ctx.Err() != nil {
		return c.death(driver.StageSession, false)
	}
	if ctx.Err() != nil {
		return driver.Errorf(driver.Timeout, driver.StageSession, "the caller gave up before anything was started").Because(ctx.Err())
	}
	err := c.client.limiter.Wait(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return driver.Errorf(driver.Timeout, driver.StageSession, "the caller gave up before its turn").Because(err)
	}
	return driver.Errorf(driver.Timeout, driver.StageSession, "too many requests are being started at once with these credentials, "+
		"and the caller could not wait for its turn; ask for less at the same time").Because(err)
}

func (c *conn) socket(ctx context.Context) (*socket, *driver.Error) {
	if taken, ok := c.client.spares.Take(); ok {
		return taken, nil
	}
	opened, err := c.client.network.open(ctx, c.client.network.anyDialFunc())
	switch {
	case err == nil:
		return opened, nil
	case c.ctx.Err() != nil:
		return nil, c.death(driver.StageConnect, false)
	}
	return nil, driver.AsError(err)
}

// joinContexts returns a context that ends with the first of the two. Its cause is that
// of the one that ended.
func joinContexts(ctx, other context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
