package reach

import (
	"context"
	"net"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// transport is how the bytes to a target travel.
type transport struct {
	// ready waits until a dial can open its stream. A dial calls it before it takes
	// a place in the budget, because the jump host's own dial needs one, too.
	ready func(context.Context) error
	// dial opens the stream of a dial. It does not wait for a jump host: dials that
	// wait with a place in the budget could leave no place for the jump host's own.
	dial driver.DialFunc
	// reopen opens a stream for a connection that lives already. Such a caller has
	// no place in the budget, so it may wait for a jump host.
	reopen driver.DialFunc
}

// direct is the transport from the operator's own network.
func direct(egress driver.DialFunc) transport {
	return transport{ready: func(context.Context) error { return nil }, dial: egress, reopen: egress}
}

// limits are what bounds the dials of all targets.
type limits struct {
	budget    *connpool.Budget
	throttles throttles
}

// Version is one version of an access. Everything that dials the target by it
// shares its breaker, so that a wrong key is tried once.
type Version struct {
	access    Access
	transport transport
	limits    *limits
	breaker   breaker
}

// Is reports whether v is the version that the access describes.
func (v *Version) Is(access Access) bool {
	return v != nil && v.access.Identity == access.Identity && v.access.Version == access.Version &&
		v.access.Trust == access.Trust
}

// Identity is the Access.Identity of the version.
func (v *Version) Identity() string { return v.access.Identity }

// JumpHost is the jump host that the target is dialed through; nil if none.
func (v *Version) JumpHost() *JumpHost { return v.access.JumpHost }

// MayServe reports whether connections made by this version may serve on although
// the wanted access cannot be prepared because of err. They may not if it is
// another host, or has other pins that are to blame.
func (v *Version) MayServe(want Access, err error) bool {
	return v.access.Identity == want.Identity && !v.invalidated(want.Trust, err)
}

// Forgive lets the next dial try at once what failed for this version.
func (v *Version) Forgive() { v.breaker.forgive() }

// endpoint is what the driver is given, without a keepalive.
func (v *Version) endpoint() driver.Endpoint {
	endpoint := v.access.Endpoint
	endpoint.Dial, endpoint.Reopen = v.transport.dial, v.transport.reopen
	return endpoint
}

// invalidated reports whether err, which came from the pins of today, proves that
// connections made by v with other pins must not serve any longer.
func (v *Version) invalidated(trust string, err error) bool {
	return v.access.Trust != trust && driver.AsError(err).AboutIdentity()
}

// host is what the budget knows the target by. A socket has the same path on
// every host, so the jump host is part of its name.
func (v *Version) host() string {
	if v.access.Endpoint.Network == "unix" {
		return v.jumpHost() + v.access.Endpoint.Address
	}
	host, _, err := net.SplitHostPort(v.access.Endpoint.Address)
	if err != nil {
		return v.access.Endpoint.Address
	}
	return host
}

// jumpHost is the UID of the jump host; empty without one.
func (v *Version) jumpHost() string {
	if v.access.JumpHost == nil {
		return ""
	}
	return v.access.JumpHost.UID
}

func (v *Version) server() server { return server{v.access.Endpoint.Address, v.jumpHost()} }
