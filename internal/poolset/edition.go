package poolset

import (
	"context"
	"net"
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
	// examined is when the health command last ran on it, at first when it was
	// made. Probes of one connection follow one another and need no lock.
	examined time.Time
}

// edition is one version of how to reach a target. All pools of the target share
// its gate, so that a wrong key is tried once.
type edition struct {
	identity, version string
	access            Access
	gate              *gate
}

// is reports whether the edition is the one that the access describes.
func (e *edition) is(access Access) bool {
	return e != nil && e.identity == access.Identity && e.version == access.Version
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
	host, bastion := hostOf(endpoint.Address), ""
	if e.access.Via != nil {
		bastion = e.access.Via.UID
	}
	return func(ctx context.Context) (driver.Conn, error) {
		return e.gate.dial(ctx, func(ctx context.Context) (driver.Conn, error) {
			if err := s.warmHop(ctx, e.access.Via); err != nil {
				return nil, err
			}
			done, err := s.budget.Admit(ctx, host, bastion)
			if err != nil {
				return nil, err
			}
			defer done()
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return dialer.Dial(ctx)
		})
	}, nil
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
