package poolset

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// dialTimeout bounds one dial once it may start. The drivers bound each stage
// by themselves; this is the bound of all of them together.
const dialTimeout = time.Minute

// dialFunc makes one connection.
type dialFunc func(context.Context) (driver.Conn, error)

// conn is a connection that knows how it was made.
type conn struct {
	driver.Conn
	edition *edition
	made    time.Time
	// examined is when the health command last ran on it, at first when it was
	// made. Probes of one connection follow one another and need no lock.
	examined time.Time
}

// edition is one version of how to reach a target. All pools of the target share
// its gate, so that a wrong key is tried once.
type edition struct {
	identity, version, trust string

	access Access
	gate   *gate
}

// is reports whether the edition is the one that the access describes.
func (e *edition) is(access Access) bool {
	return e != nil && e.identity == access.Identity && e.version == access.Version && e.trust == access.Trust
}

// disowns reports whether a failed dial of the edition proves that connections
// made on the strength of other pins must not serve any longer.
func (e *edition) disowns(trusted string, err *driver.Error) bool {
	return e.trust != trusted && err.AboutIdentity()
}

// mayNotServe reports whether connections of the edition must go, because what
// is wanted now and cannot be prepared is another host or has other pins.
func (e *edition) mayNotServe(want Access, err error) bool {
	return e.identity != want.Identity || e.trust != want.Trust && driver.AsError(err).AboutIdentity()
}

// dialer makes the dial function for a pool with the policy's keepalive.
func (e *edition) dialer(s *Set, policy Policy) (dialFunc, error) {
	endpoint := e.access.Endpoint
	endpoint.KeepaliveInterval, endpoint.KeepaliveTimeout = policy.KeepaliveInterval, policy.KeepaliveTimeout
	endpoint.Dial = s.transport(e.access.Via)
	dialer, err := e.access.Driver.Prepare(endpoint)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (driver.Conn, error) {
		return e.gate.dial(ctx, func(ctx context.Context) (driver.Conn, error) {
			return s.dial(ctx, e, dialer)
		})
	}, nil
}

// hopLosses bounds how often one dial begins anew because its jump host could
// not carry it when its turn had come.
const hopLosses = 3

// dial makes one connection when it is its turn.
func (s *Set) dial(ctx context.Context, e *edition, dialer driver.Dialer) (driver.Conn, error) {
	for losses := 0; ; losses++ {
		if err := s.warmHop(ctx, e.access.Via); err != nil {
			return nil, err
		}
		done, err := s.budget.Admit(ctx, e.host(), e.bastion())
		if err != nil {
			return nil, err
		}
		if err := s.pauses.refusal(e.server()); err != nil {
			done(context.Canceled) // nothing was dialed
			return nil, err
		}
		made, err := dialInPlace(ctx, dialer)
		s.pauses.learn(e.server(), err)
		if losses < hopLosses && errors.Is(err, errNoHop) {
			done(context.Canceled) // nothing was learned of the route
			continue
		}
		done(err)
		return made, err
	}
}

// place is that of a dial in the budget, until the dial is over.
type place struct{ over atomic.Bool }

type placeKey struct{}

// dialInPlace runs a dial that has its place in the budget, and lets what it
// opens know.
func dialInPlace(ctx context.Context, dialer driver.Dialer) (driver.Conn, error) {
	mine := &place{}
	defer mine.over.Store(true)
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, placeKey{}, mine), dialTimeout)
	defer cancel()
	return dialer.Dial(ctx)
}

// holdsPlace reports that a stream is opened by a dial with a place in the
// budget, and not for a connection that lives already.
func holdsPlace(ctx context.Context) bool {
	mine, ok := ctx.Value(placeKey{}).(*place)
	return ok && !mine.over.Load()
}

// host is what the dial budget knows the endpoint by. A socket has the same path
// on every host, so there it is the host that counts.
func (e *edition) host() string {
	if e.access.Endpoint.Network == "unix" {
		return e.bastion() + e.access.Endpoint.Address
	}
	return hostOf(e.access.Endpoint.Address)
}

// bastion is the UID of the jump host; empty without one.
func (e *edition) bastion() string {
	if e.access.Via == nil {
		return ""
	}
	return e.access.Via.UID
}

// transport is how the endpoint's bytes travel.
func (s *Set) transport(via *Hop) driver.DialFunc {
	if via == nil {
		return s.egress
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.forward(ctx, via, network, address)
	}
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
