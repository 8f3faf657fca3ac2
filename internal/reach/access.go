package reach

import (
	"time"

	"github.com/connpool/connpool/internal/driver"
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
	for ; h != nil; h = h.JumpHost {
		if h.UID == uid {
			return true
		}
	}
	return false
}

// Keepalive is how often a live connection is asked for a sign of life, and how
// long the answer may take.
type Keepalive struct {
	Interval, Timeout time.Duration
}
