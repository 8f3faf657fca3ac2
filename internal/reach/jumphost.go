package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach/refusals"
)

// jumpHostLimits are those of the connections to one jump host. Few connections
// carry many forwarded streams, which sshd does not count as sessions. What runs
// over them ends by deadlines of its own, so their drain need not cut it.
var jumpHostLimits = connpool.Limits{
	Max:            8,
	LeasesPerConn:  256,
	MaxPending:     10_000,
	AcquireTimeout: dialTimeout,
	MaxAge:         time.Hour,
	MaxIdle:        5 * time.Minute,
	DrainTimeout:   24 * time.Hour,
}

// jumpHostKeepalive is short, so that a dead jump host is not mistaken for all the
// targets behind it.
var jumpHostKeepalive = Keepalive{Interval: 10 * time.Second, Timeout: 5 * time.Second}

// replaceAfter is for how long every stream of a connection must have been refused
// before the connection is replaced. What its account may do was fixed at the login:
// one that has been put into a group since is not in it on this connection.
const replaceAfter = 3 * time.Minute

// tunnel is the transport through a jump host.
type tunnel struct {
	Ref
	// pool looks the pool up for each stream, because the jump host may have been
	// swept and made known again since. It returns nil while the jump host is unknown.
	pool func() *Pool
}

func (t tunnel) transport() transport {
	acquireAndOpen := func(acquire func(context.Context) (*Lease, error)) driver.DialFunc {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			return t.open(ctx, acquire, network, address)
		}
	}
	return transport{ready: t.ready, dial: acquireAndOpen(t.acquireAtOnce), reopen: acquireAndOpen(t.acquire)}
}

func (t tunnel) ready(ctx context.Context) error {
	lease, err := t.acquire(ctx)
	if err != nil {
		return err
	}
	lease.Release()
	return nil
}

// open opens a stream, which holds its lease until it is closed.
func (t tunnel) open(
	ctx context.Context, acquire func(context.Context) (*Lease, error), network, address string,
) (net.Conn, error) {
	for {
		held, err := acquire(ctx)
		if err != nil {
			return nil, err
		}
		opened, err := t.forward(ctx, held.Conn().Conn, network, address)
		switch {
		case err == nil:
			held.Conn().refusing.Store(0)
			return &stream{Conn: opened, release: sync.OnceFunc(held.Release)}, nil
		case held.Conn().Context().Err() != nil && ctx.Err() == nil:
			held.Discard() // it had died, which says nothing of the next one
			continue
		case driver.AsError(err).Reason == driver.Timeout:
			// The jump host may be to blame. Then it must not keep other callers
			// waiting until its keepalive notices.
			ReleaseProven(held, err)
		default:
			if ctx.Err() == nil {
				held.Conn().refused(held.ID(), time.Now())
			}
			held.Release()
		}
		return nil, err
	}
}

// refused takes note that the jump host has refused a stream, and has the connection
// replaced if it does nothing else.
func (c *Conn) refused(id uint64, now time.Time) {
	if c.refusing.CompareAndSwap(0, now.UnixNano()) {
		return
	}
	if now.Sub(time.Unix(0, c.refusing.Load())) >= replaceAfter {
		c.pool.Recycle(id)
	}
}

func (t tunnel) forward(ctx context.Context, conn driver.Conn, network, address string) (net.Conn, error) {
	forwarder, ok := conn.(driver.Forwarder)
	if !ok {
		return nil, t.notReady(&driver.Error{Message: "it cannot forward connections; choose an ssh target"})
	}
	return forwarder.Forward(ctx, network, address)
}

// acquireAtOnce is acquire for a dial, which must not wait. If the jump host is lost
// between the look and the lease, it does wait, within the bound of the dial.
func (t tunnel) acquireAtOnce(ctx context.Context) (*Lease, error) {
	if pool := t.pool(); pool == nil || !slices.ContainsFunc(pool.Conns(), hasRoom) {
		return nil, t.notReady(&driver.Error{Reason: driver.Unreachable, Message: "its connection was lost", Err: errNoRoom})
	}
	return t.acquire(ctx)
}

// hasRoom reports whether a connection to a jump host can carry one more stream now.
func hasRoom(c connpool.ConnStats[*Conn]) bool {
	return c.State < connpool.Draining && c.Leases < jumpHostLimits.LeasesPerConn
}

func (t tunnel) acquire(ctx context.Context) (*Lease, error) {
	pool := t.pool()
	if pool == nil {
		return nil, t.notReady(acquireFailure(connpool.ErrClosed))
	}
	acquire := pool.Acquire
	if connpool.Insists(ctx) {
		acquire = pool.Insist
	}
	acquired, err := acquire(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, t.notReady(acquireFailure(err))
	}
	return acquired, err
}

// notReady blames the jump host, and not the target behind it.
func (t tunnel) notReady(cause *driver.Error) error {
	return &driver.Error{
		Reason:     driver.JumpTargetNotReady,
		Stage:      driver.StageConnect,
		Message:    fmt.Sprintf("the jump host %s cannot be used: %s", t.Name, cause),
		RetryAfter: cause.RetryAfter, PortRefused: cause.PortRefused,
		Err: cause,
	}
}

// acquireFailure says in a user's words why a jump host has no connection to lease.
func acquireFailure(err error) *driver.Error {
	switch {
	case errors.Is(err, connpool.ErrClosed):
		return &driver.Error{Reason: driver.Unreachable, Message: "it is being disconnected", Err: err}
	case errors.Is(err, connpool.ErrExhausted):
		return &driver.Error{Reason: driver.SessionLimit, Message: "its connections carry as many streams as they are allowed to", Err: err}
	case errors.Is(err, connpool.ErrDialPending):
		return &driver.Error{Reason: driver.Timeout, Message: "it is still being dialed", Err: err}
	}
	failure := driver.AsError(err)
	if down, ok := errors.AsType[*connpool.DownError](err); ok && failure.RetryAfter > 0 && !down.Until.IsZero() {
		return refusals.Left(failure, down.Until)
	}
	return failure
}

// stream is a stream through a jump host.
type stream struct {
	net.Conn
	release func()
}

// Close ends the stream and gives its lease back.
func (s *stream) Close() error {
	defer s.release()
	return s.Conn.Close()
}

// CloseWrite ends one direction, or both if the stream cannot end only one: a
// command in a container learns by it that its input is over.
func (s *stream) CloseWrite() error {
	if half, ok := s.Conn.(driver.HalfCloser); ok {
		return half.CloseWrite()
	}
	return s.Close()
}
