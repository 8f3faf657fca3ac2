package poolset

import (
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// Ref names an object for humans and events; its UID is what identifies it, so
// that a namesake inherits nothing.
type Ref struct {
	UID, Namespace, Name string
}

// Target is what should be true of one target: how to reach it, and the pools
// that want connections to it.
type Target struct {
	Ref
	Access
	// Type names the protocol, for statistics.
	Type string
	// Pools that select the target. Without any, nothing is dialed.
	Pools []Pool
}

// Access is how to reach an endpoint.
type Access struct {
	// Driver speaks the endpoint's protocol.
	Driver driver.Driver
	// Endpoint without Dial and the keepalive settings, which the set fills in.
	Endpoint driver.Endpoint
	// Identity changes when another host or account is meant: connections made
	// for the old one are never leased again. An empty one says that nobody can
	// tell, such as from credentials that cannot be read: then it is as before.
	Identity string
	// Version changes with anything else that new connections must use, such as
	// credentials: they are proven before the old ones are retired.
	Version string
	// Trust changes with the pinned identity of the server. If it has changed
	// and the server turns out not to be the one that is pinned now, connections
	// made on the strength of the earlier pins are given up.
	Trust string
	// Via is the jump host; nil means from the operator's own network.
	Via *Hop
}

// Hop is a jump host. Its connections are shared by all targets behind it.
type Hop struct {
	Ref
	Access
}

// Pool is one pool's wish for a target.
type Pool struct {
	Ref
	Policy
}

// Policy is how a pool keeps connections good.
type Policy struct {
	// Limits of size, age and waiting. The set fills in DialTimeout.
	connpool.Limits
	// Keepalive of live connections, and the time an answer may take.
	KeepaliveInterval, KeepaliveTimeout time.Duration
	// FailureThreshold is how many failures in a row make a target bad, and
	// SuccessThreshold is how many successes in a row make it good
	// again.
	FailureThreshold, SuccessThreshold int
	// ProbeCommand is run beside the protocol's own probe, in ProbePeriod, on
	// connections with a free slot; nil means that none is. It decides on the
	// health of the target and never closes a connection.
	ProbeCommand []string
	// Single says that the pool is declared for one target only, so that a
	// request need not name it. How many targets it happens to have now says
	// nothing: others may come, or be away for the moment.
	Single bool
	// AnyTarget lets a request that names no target use any healthy one.
	AnyTarget bool
}
