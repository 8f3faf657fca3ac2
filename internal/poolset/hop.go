package poolset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// hopLimits are those of the connections to one jump host. Few connections
// carry many forwarded streams: sshd does not count those as sessions. What runs
// over them ends by deadlines of its own, so their drain need not cut it.
var hopLimits = connpool.Limits{
	Max:            8,
	LeasesPerConn:  256,
	MaxPending:     10_000,
	AcquireTimeout: dialTimeout,
	DialTimeout:    waitForever,
	MaxAge:         time.Hour,
	MaxIdle:        5 * time.Minute,
	DrainTimeout:   24 * time.Hour,
}

// hopPolicy is the keepalive of the connections to a jump host: a dead one must
// not be mistaken for all the hosts behind it.
var hopPolicy = Policy{KeepaliveInterval: 10 * time.Second, KeepaliveTimeout: 5 * time.Second}

// hop is the pool of one jump host. It connects when the first target behind it
// is dialed.
type hop struct {
	Ref
	edition *edition
	pool    *connpool.Pool[driver.Conn]
	// trusted are the pins that the newest connection was made with, version is
	// what its server called itself. Both are strings.
	trusted, version atomic.Value
}

// errNoHop says that a dial had its turn while its jump host could not carry it.
var errNoHop = errors.New("poolset: the jump host has no room")

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
// it is closed. What a living connection opens in addition waits for the jump
// host like anybody; a dial that has its turn does not, because those who wait
// with a place in the budget could leave no place for the jump host's own dial.
func (s *Set) forward(ctx context.Context, via *Hop, network, address string) (net.Conn, error) {
	for {
		if holdsPlace(ctx) && !s.hasRoom(via) {
			return nil, hopError(via, &driver.Error{Reason: driver.Unreachable, Message: "its connection was lost", Err: errNoHop})
		}
		lease, err := s.acquireHop(ctx, via)
		if err != nil {
			return nil, err
		}
		conn, err := forwardOn(ctx, via, lease.Conn(), network, address)
		switch {
		case err == nil:
			return &hopConn{Conn: conn, release: sync.OnceFunc(lease.Release)}, nil
		case lease.Conn().Context().Err() == nil || ctx.Err() != nil:
			s.releaseHop(lease, err)
			return nil, err
		}
		lease.Discard() // it had died, which says nothing of the next one
	}
}

func forwardOn(ctx context.Context, via *Hop, conn driver.Conn, network, address string) (net.Conn, error) {
	forwarder, ok := conn.(driver.Forwarder)
	if !ok {
		return nil, hopError(via, &driver.Error{Message: "it cannot forward connections; choose an ssh target"})
	}
	return forwarder.Forward(ctx, network, address)
}

// releaseHop gives a lease back through which nothing could be opened. If there
// was no answer, it may be the jump host that is to blame: then it must not keep
// all others waiting until its keepalive notices.
func (s *Set) releaseHop(lease *connpool.Lease[driver.Conn], failure error) {
	if driver.AsError(failure).Reason != driver.Timeout {
		lease.Release()
		return
	}
	s.proveAndRelease(lease.Conn(), lease)
}

func (s *Set) hop(via *Hop) *hop {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hops[via.UID]
}

// hasRoom reports whether the jump host can carry one more stream now.
func (s *Set) hasRoom(via *Hop) bool {
	h := s.hop(via)
	return h != nil && slices.ContainsFunc(h.pool.Conns(), func(c connpool.ConnStats[driver.Conn]) bool {
		return c.State < connpool.Draining && c.Leases < hopLimits.LeasesPerConn
	})
}

func (s *Set) acquireHop(ctx context.Context, via *Hop) (*connpool.Lease[driver.Conn], error) {
	h := s.hop(via)
	if h == nil {
		return nil, hopError(via, hopFailure(connpool.ErrClosed))
	}
	lease, err := h.pool.Acquire(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, hopError(via, hopFailure(err))
	}
	return lease, nil
}

// hopFailure says in a user's words why a jump host has no connection to lease.
func hopFailure(err error) *driver.Error {
	switch {
	case errors.Is(err, connpool.ErrClosed):
		return &driver.Error{Reason: driver.Unreachable, Message: "it is being disconnected", Err: err}
	case errors.Is(err, connpool.ErrExhausted):
		return &driver.Error{Reason: driver.SessionLimit, Message: "its connections carry as many streams as they may", Err: err}
	case errors.Is(err, connpool.ErrDialPending):
		return &driver.Error{Reason: driver.Timeout, Message: "it is still being dialed", Err: err}
	}
	return remaining(err)
}

// remaining is why a pool is down, with the time for which it is still left
// alone instead of the time for which it was at first.
func remaining(err error) *driver.Error {
	failure := *driver.AsError(err)
	down, ok := errors.AsType[*connpool.DownError](err)
	if ok && failure.RetryAfter > 0 && !down.Until.IsZero() {
		failure.RetryAfter = max(0, time.Until(down.Until))
	}
	return &failure
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

// ensureHops makes the jump hosts as wanted: new credentials are proven before
// the connections made with the old ones are retired.
func (s *Set) ensureHops(via *Hop) {
	for ; via != nil; via = via.Via {
		h := s.hops[via.UID]
		if h != nil && h.edition.is(via.Access) {
			continue
		}
		next := s.editionOf(via.UID, via.Access)
		switch {
		case h == nil:
			s.hops[via.UID] = s.newHop(via.Ref, next)
			continue
		case h.edition.identity != next.identity:
			h.pool.Replace(s.hopDialer(h, next))
		default:
			h.pool.Rotate(s.hopDialer(h, next))
		}
		h.edition = next
		s.retryBehind(via.UID)
	}
}

// retryBehind lets everything behind a jump host try again at once, since what
// stood in the way may be gone.
func (s *Set) retryBehind(uid string) {
	for _, h := range s.hops {
		if h.edition.access.Via.leadsTo(uid) {
			h.edition.gate.forgive()
			h.pool.Retry()
		}
	}
	for _, t := range s.targets {
		if !t.via.leadsTo(uid) {
			continue
		}
		if t.edition != nil {
			t.edition.gate.forgive()
		}
		for _, m := range t.members {
			m.pool.Retry()
		}
	}
}

// leadsTo reports whether the jump host is on the way.
func (h *Hop) leadsTo(uid string) bool {
	for ; h != nil; h = h.Via {
		if h.UID == uid {
			return true
		}
	}
	return false
}

func (s *Set) newHop(ref Ref, e *edition) *hop {
	h := &hop{Ref: ref, edition: e}
	h.trusted.Store("")
	h.version.Store("")
	// Nothing is dialed before somebody acquires, so dials see h complete.
	h.pool = connpool.New(connpool.Options[driver.Conn]{
		Dial: s.hopDialer(h, e), Judge: judge, Limits: hopLimits,
		Notify: func() { s.changed(ref) },
	})
	return h
}

// hopDialer makes the dial function of a jump host, which is prepared when it is
// dialed first.
func (s *Set) hopDialer(h *hop, e *edition) connpool.DialFunc[driver.Conn] {
	prepared := onceGood(func() (dialFunc, error) { return e.dialer(s, hopPolicy) })
	return func(ctx context.Context) (driver.Conn, error) {
		dial, err := prepared()
		if err != nil {
			s.disownHop(h, e, err)
			return nil, err
		}
		made, err := dial(ctx)
		if err != nil {
			s.disownHop(h, e, err)
			return nil, err
		}
		h.trusted.Store(e.trust)
		h.version.Store(made.Info().ServerVersion)
		return made, nil
	}
}

// onceGood calls prepare until it succeeds, then returns what it made: what cannot
// be prepared now may be later, such as a certificate that is not valid yet.
func onceGood[T any](prepare func() (T, error)) func() (T, error) {
	var (
		mu   sync.Mutex
		good bool
		made T
	)
	return func() (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if good {
			return made, nil
		}
		var err error
		made, err = prepare()
		good = err == nil
		return made, err
	}
}

// disownHop gives up the connections made on the strength of earlier pins, if a
// trial of those of today proves that the jump host is another one.
func (s *Set) disownHop(h *hop, e *edition, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	trusted, _ := h.trusted.Load().(string)
	if h.edition == e && h.pool.Stats().Rotation.Pending && e.disowns(trusted, driver.AsError(err)) {
		h.pool.Replace(s.hopDialer(h, e))
	}
}

// sweepHops drains the jump hosts that no target uses any more, as soon as
// nothing runs over them.
func (s *Set) sweepHops() {
	used := map[string]bool{}
	for _, t := range s.targets {
		for via := t.via; via != nil; via = via.Via {
			used[via.UID] = true
		}
	}
	for uid, h := range s.hops {
		if !used[uid] {
			delete(s.hops, uid)
			s.drain(h.pool, hopLimits.DrainTimeout, func() {})
			s.changed(h.Ref)
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

// CloseWrite ends one direction, or both where the stream cannot end only one: a
// command in a container learns by it that its input is over.
func (c *hopConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
