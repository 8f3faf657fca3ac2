package reach

import (
	"context"
	"net"
	"time"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach/preparation"
	"github.com/connpool/connpool/internal/reach/refusals"
)

// Ref names an object for humans and events. Its UID is what identifies it, so
// that another object of the same name inherits nothing.
type Ref struct {
	UID, Namespace, Name string
}

// Access is how to reach a target.
type Access struct {
	// Driver speaks the target's protocol.
	Driver driver.Driver
	// Endpoint without Dial, Reopen and the keepalive settings, which this package
	// fills in.
	Endpoint driver.Endpoint
	// Identity changes when another host or account is meant: connections made
	// for the old one are never leased again. An empty one means that it cannot be
	// told, for example from credentials that cannot be read: then it is as before.
	Identity string
	// Version changes with anything else that new connections must use, such as
	// credentials: they are proven before the old connections are retired.
	Version string
	// Trust changes with the pinned identity of the server. If it has changed
	// and the server turns out not to be the one that is pinned now, connections
	// made with the earlier pins are given up.
	Trust string
	// JumpHost is the target on the way to this one; nil means that it is dialed
	// from the operator's own network.
	JumpHost *JumpHost
}

// JumpHost is a target on the way to another one. All targets behind it share
// its connections.
type JumpHost struct {
	Ref
	Access
}

// LeadsTo reports whether the target with the UID is h or on the way to it.
func (h *JumpHost) LeadsTo(uid string) bool {
	return h != nil && (h.UID == uid || h.JumpHost.LeadsTo(uid))
}

// IsSamePath reports whether both are the same jump host, and so are those on the way to it.
func (h *JumpHost) IsSamePath(other *JumpHost) bool {
	if h == nil || other == nil {
		return h == other
	}
	return h.UID == other.UID && h.JumpHost.IsSamePath(other.JumpHost)
}

// Keepalive is how often a live connection is asked for a sign of life, and how
// long the answer may take.
type Keepalive struct {
	Interval, Timeout time.Duration
}

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

// Version is one version of an access. Everything that dials the target by it
// shares its breaker, so that a wrong key is tried once.
type Version struct {
	namespace string // of the target
	access    Access
	transport transport
	breaker   refusals.Breaker
	// preparation is that of the endpoint, for all who dial it.
	preparation *preparation.Preparation
	// What bounds the dials of all targets.
	budget      *dialbudget.Budget
	throttles   *refusals.Throttles
	connections *connections
}

// Is reports whether v is the version that the access describes.
func (v *Version) Is(access Access) bool {
	return v != nil && v.access.Identity == access.Identity && v.access.Version == access.Version &&
		v.access.Trust == access.Trust
}

// PreparingError means that the credentials of an access are being prepared, or wait
// for their turn.
type PreparingError = preparation.RunningError

// Prepare returns whether the access can be used: with nil, with a *driver.Error that
// says why not, or with a *PreparingError. It never waits: what is not known yet is
// found out in the background, as work, and then is called.
func (v *Version) Prepare(work *background.Work, then func()) error {
	return v.preparation.Start(work.Go, then)
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

func (v *Version) server() refusals.Server {
	return refusals.Server{Address: v.access.Endpoint.Address, JumpHost: v.jumpHost()}
}
