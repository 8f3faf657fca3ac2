package drivertest

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// Fake is a driver in memory. Its zero value prepares every endpoint, dials at once and
// completes every command with exit code 0. Hooks change that, at any time. It works in
// virtual time.
//
//	fake := new(drivertest.Fake)
//	fake.OnDial(func(context.Context, driver.Endpoint) error {
//		return &driver.Error{Reason: driver.Unreachable}
//	})
type Fake struct {
	mu    sync.Mutex
	hooks hooks
	dials []driver.Endpoint
	conns []*FakeConn
}

type hooks struct {
	prepare func(driver.Endpoint) error
	dial    func(context.Context, driver.Endpoint) error
	probe   func(context.Context, *FakeConn) error
	exec    ExecFunc
	forward ForwardFunc
	list    ListFunc
}

// ExecFunc plays the remote of one command.
type ExecFunc func(context.Context, *FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error)

// ForwardFunc plays the remote of one forward.
type ForwardFunc func(ctx context.Context, conn *FakeConn, network, address string) (net.Conn, error)

// ListFunc plays the remote of one list of places.
type ListFunc func(context.Context, *FakeConn, inventory.Query) (*inventory.Places, error)

// OnPrepare decides which endpoints are refused.
func (f *Fake) OnPrepare(hook func(driver.Endpoint) error) {
	f.set(func(h *hooks) { h.prepare = hook })
}

// OnDial decides which dials fail; it may block until its context ends.
func (f *Fake) OnDial(hook func(context.Context, driver.Endpoint) error) {
	f.set(func(h *hooks) { h.dial = hook })
}

// OnProbe decides which probes fail. A probe of a dead connection always does.
func (f *Fake) OnProbe(hook func(context.Context, *FakeConn) error) {
	f.set(func(h *hooks) { h.probe = hook })
}

// OnExec sets the remote of every command. It is not called on a dead connection.
func (f *Fake) OnExec(hook ExecFunc) { f.set(func(h *hooks) { h.exec = hook }) }

// OnForward sets the remote of every forward.
func (f *Fake) OnForward(hook ForwardFunc) { f.set(func(h *hooks) { h.forward = hook }) }

// OnList sets the remote of every list of places.
func (f *Fake) OnList(hook ListFunc) { f.set(func(h *hooks) { h.list = hook }) }

func (f *Fake) set(change func(*hooks)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.hooks)
}

func (f *Fake) current() hooks {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hooks
}

// Dials returns the endpoint of every dial so far, failed ones included, oldest
// first.
func (f *Fake) Dials() []driver.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.dials)
}

// Live returns the connections that are not dead, oldest first.
func (f *Fake) Live() []*FakeConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.conns), func(c *FakeConn) bool { return c.ctx.Err() != nil })
}

// Prepare implements driver.Driver.
func (f *Fake) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	if prepare := f.current().prepare; prepare != nil {
		if err := prepare(endpoint); err != nil {
			return nil, err
		}
	}
	return &fakeDialer{fake: f, endpoint: endpoint}, nil
}

type fakeDialer struct {
	fake     *Fake
	endpoint driver.Endpoint
}

// With implements driver.Dialer.
func (d *fakeDialer) With(change func(*driver.Endpoint)) driver.Dialer {
	changed := *d
	change(&changed.endpoint)
	return &changed
}

// Dial implements driver.Dialer.
func (d *fakeDialer) Dial(ctx context.Context) (driver.Conn, error) {
	d.fake.mu.Lock()
	d.fake.dials = append(d.fake.dials, d.endpoint)
	dial := d.fake.hooks.dial
	d.fake.mu.Unlock()
	if dial != nil {
		if err := dial(ctx, d.endpoint); err != nil {
			return nil, err
		}
	}
	d.endpoint.Passed(driver.StageSession, "session opened")
	conn := &FakeConn{Endpoint: d.endpoint, fake: d.fake}
	conn.ctx, conn.cancel = context.WithCancelCause(context.Background())
	d.fake.mu.Lock()
	defer d.fake.mu.Unlock()
	d.fake.conns = append(d.fake.conns, conn)
	return conn, nil
}

// FakeConn is a connection of a Fake.
type FakeConn struct {
	// Endpoint is what was dialed.
	Endpoint driver.Endpoint

	fake   *Fake
	ctx    context.Context //nolint:containedctx // driver.Conn asks for it
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	execs []driver.Command
}

var (
	_ driver.Conn      = (*FakeConn)(nil)
	_ driver.Execer    = (*FakeConn)(nil)
	_ driver.Forwarder = (*FakeConn)(nil)
	_ inventory.Lister = (*FakeConn)(nil)
)

// Kill ends the connection as if the remote had; nil stands for a reset.
func (c *FakeConn) Kill(cause error) {
	if cause == nil {
		cause = &driver.Error{Reason: driver.Unreachable, Stage: driver.StageRun, Message: "the connection was reset"}
	}
	c.cancel(cause)
}

// Execs returns the commands that reached the remote, oldest first.
func (c *FakeConn) Execs() []driver.Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.execs)
}

// Context implements driver.Conn.
func (c *FakeConn) Context() context.Context { return c.ctx }

// Close implements driver.Conn.
func (c *FakeConn) Close() error {
	c.cancel(context.Canceled)
	return nil
}

// Info implements driver.Conn.
func (c *FakeConn) Info() driver.Info {
	return driver.Info{
		ServerVersion: "fake", RemoteAddress: c.Endpoint.Address,
		Handshake: time.Millisecond, RoundTrip: time.Millisecond,
	}
}

// Probe implements driver.Conn.
func (c *FakeConn) Probe(ctx context.Context) error {
	if err := c.dead(driver.StageKeepalive); err != nil {
		return err
	}
	if probe := c.fake.current().probe; probe != nil {
		return probe(ctx, c)
	}
	return nil
}

// Exec implements driver.Execer.
func (c *FakeConn) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	if err := c.dead(driver.StageSession); err != nil {
		return driver.ExitStatus{}, err
	}
	c.mu.Lock()
	c.execs = append(c.execs, command)
	c.mu.Unlock()
	streams.Accepted()
	if exec := c.fake.current().exec; exec != nil {
		return exec(ctx, c, command, streams)
	}
	return driver.ExitStatus{}, nil
}

// Forward implements driver.Forwarder.
func (c *FakeConn) Forward(ctx context.Context, network, address string) (net.Conn, error) {
	if err := c.dead(driver.StageSession); err != nil {
		return nil, err
	}
	if forward := c.fake.current().forward; forward != nil {
		return forward(ctx, c, network, address)
	}
	return nil, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageSession, Message: "nothing listens there"}
}

// List implements inventory.Lister. Without a hook there is nothing.
func (c *FakeConn) List(ctx context.Context, query inventory.Query) (*inventory.Places, error) {
	if err := c.dead(driver.StageSession); err != nil {
		return nil, err
	}
	if list := c.fake.current().list; list != nil {
		return list(ctx, c, query)
	}
	return new(inventory.Places), nil
}

func (c *FakeConn) dead(stage driver.Stage) error {
	if c.ctx.Err() == nil {
		return nil
	}
	return &driver.Error{
		Reason: driver.Unreachable, Stage: stage, Message: "the connection is closed",
		Err: context.Cause(c.ctx),
	}
}
