package poolset

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// hopLimits are those of the connections to one jump host. Few connections
// carry many forwarded streams: sshd does not count those as sessions.
var hopLimits = connpool.Limits{
	Max:            4,
	LeasesPerConn:  256,
	MaxPending:     10_000,
	AcquireTimeout: dialTimeout,
	DialTimeout:    waitForever,
	MaxAge:         time.Hour,
	MaxIdle:        5 * time.Minute,
}

// hopPolicy is the keepalive of the connections to a jump host: a dead one must
// not be mistaken for all the hosts behind it.
var hopPolicy = Policy{KeepaliveInterval: 15 * time.Second, KeepaliveTimeout: 5 * time.Second}

// hop is the pool of one jump host.
type hop struct {
	edition *edition
	pool    *connpool.Pool[driver.Conn]
}

// warmHop waits until the jump host has a connection. It runs before the dial
// takes its place in the budget, since the jump host's own dial needs one too.
func (s *Set) warmHop(ctx context.Context, via *Hop) error {
	if via == nil {
		return nil
	}
	lease, err := s.acquireHop(ctx, via)
	if err != nil {
		return err
	}
	lease.Release()
	return nil
}

// forward opens a stream through the jump host. The stream holds its lease until
// it is closed.
func (s *Set) forward(ctx context.Context, via *Hop, network, address string) (net.Conn, error) {
	lease, err := s.acquireHop(ctx, via)
	if err != nil {
		return nil, err
	}
	forwarder, ok := lease.Conn().(driver.Forwarder)
	if !ok {
		lease.Release()
		return nil, hopError(via, &driver.Error{Message: "it cannot forward connections; choose an ssh target"})
	}
	conn, err := forwarder.Forward(ctx, network, address)
	if err != nil {
		lease.Release()
		return nil, err
	}
	return &hopConn{Conn: conn, release: sync.OnceFunc(lease.Release)}, nil
}

func (s *Set) acquireHop(ctx context.Context, via *Hop) (*connpool.Lease[driver.Conn], error) {
	h, err := s.ensureHop(via)
	if err != nil {
		return nil, hopError(via, driver.AsError(err))
	}
	lease, err := h.pool.Acquire(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, hopError(via, driver.AsError(err))
	}
	return lease, nil
}

// hopError says that the trouble is the jump host's, not that of the host
// behind it.
func hopError(via *Hop, cause *driver.Error) error {
	return &driver.Error{
		Reason:     driver.JumpTargetNotReady,
		Stage:      driver.StageConnect,
		Message:    fmt.Sprintf("the jump target %s cannot be used: %s", via.Name, cause),
		RetryAfter: cause.RetryAfter,
		Err:        cause,
	}
}

// ensureHop returns the jump host's pool, at the edition that the caller knows.
func (s *Set) ensureHop(via *Hop) (*hop, error) {
	s.mu.RLock()
	h, closed := s.hops[via.UID], s.closed
	s.mu.RUnlock()
	if closed {
		return nil, connpool.ErrClosed
	}
	if h != nil && h.edition.is(via.Access) {
		return h, nil
	}
	next := &edition{identity: via.Identity, version: via.Version, access: via.Access, gate: &gate{}}
	dial, err := next.dialer(s, hopPolicy)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putHop(via, next, dial), nil
}

func (s *Set) putHop(via *Hop, next *edition, dial connpool.DialFunc[driver.Conn]) *hop {
	h := s.hops[via.UID]
	if h == nil {
		h = &hop{edition: next, pool: connpool.New(connpool.Options[driver.Conn]{
			Dial: dial, Judge: judge, Limits: hopLimits,
		})}
		s.hops[via.UID] = h
		return h
	}
	switch {
	case h.edition.identity != next.identity:
		h.pool.Replace(dial)
	case h.edition.version != next.version:
		h.pool.Rotate(dial)
	default:
		return h // somebody else was faster
	}
	h.edition = next
	return h
}

// sweepHops drains the jump hosts that no target uses any more.
func (s *Set) sweepHops() {
	used := map[string]bool{}
	for _, t := range s.targets {
		for via := t.edition.access.Via; via != nil; via = via.Via {
			used[via.UID] = true
		}
	}
	for uid, h := range s.hops {
		if !used[uid] {
			delete(s.hops, uid)
			s.drain(h.pool, removalGrace)
		}
	}
}

// hopConn is a stream through a jump host.
type hopConn struct {
	net.Conn
	release func()
}

// Close ends the stream and gives its lease back.
func (c *hopConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
