// Package reach makes connections to targets: it knows how a target is reached and
// when it may be dialed.
//
// An Access says how to reach a target. A Network turns each version of it into one
// Version, which all pools of the target share, and a Version into Dialers, one for
// each keepalive. Dialer.Dial is the one verb: it passes the breaker of the version,
// waits until the jump host is connected, takes a place in the dial budget, obeys
// the throttle of the server, and calls the driver. A Pool is a connpool.Pool whose
// connections are made in this way and which follows its access from version to
// version. The connections to a jump host are such a Pool, too: the targets behind
// it share them.
//
// Which replica of the operator dials a target will be decided here, above the
// breaker, once there are several.
//
// Order of locks: that of jumpHosts, that of a Pool, that of whatever its Changed
// function locks, that of its connpool.Pool. The locks of the breaker, the throttles
// and the budget are taken last and alone.
//
// Trade-offs: a jump host is described by the target behind it that was ensured
// last, which is right as long as all targets are read from the same objects. A dial
// waits for its jump host without a place in the budget; if the jump host is lost in
// between, the dial starts over instead of waiting.
package reach

import (
	"context"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// Network is what the dials of a process share: the transport, the dial budget, the
// throttles and the jump hosts. Its methods are safe for concurrent use.
type Network struct {
	direct     transport
	limits     *limits
	background *Background
	notify     func(Ref)
	jumpHosts  *jumpHosts
}

// New returns a network without jump hosts. Streams from the operator's own network
// are opened by egress. notify is called with each jump host whose state has
// changed; it must neither block nor call the network.
func New(egress driver.DialFunc, budget *connpool.Budget, background *Background, notify func(Ref)) *Network {
	return &Network{
		direct:     direct(egress),
		limits:     &limits{budget: budget},
		background: background,
		notify:     notify,
		jumpHosts:  &jumpHosts{background: background, byUID: map[string]*jumpHost{}},
	}
}

// Version returns the version that the access of a target describes. It is that of
// the jump host with the same UID, if there is one and it has this version, so that
// a target and the jump host that it is for others learn from one another.
func (n *Network) Version(uid string, access Access) *Version {
	if h := n.jumpHosts.get(uid); h != nil {
		if v := h.version(); v.Is(access) {
			return v
		}
	}
	v := &Version{access: access, limits: n.limits, transport: n.direct}
	if access.JumpHost != nil {
		v.transport = tunnel{n.jumpHosts, access.JumpHost.Ref}.transport()
	}
	return v
}

// NewPool starts a pool.
func (n *Network) NewPool(opts PoolOptions) *Pool { return newPool(n.background, opts) }

// EnsureJumpHost makes a jump host usable by targets behind it, by the version, and
// reports whether it existed with another one.
func (n *Network) EnsureJumpHost(ref Ref, version *Version) (changed bool) {
	n.jumpHosts.mu.Lock()
	defer n.jumpHosts.mu.Unlock()
	h := n.jumpHosts.byUID[ref.UID]
	if h == nil {
		n.jumpHosts.byUID[ref.UID] = n.newJumpHost(ref, version)
		return false
	}
	if h.version().Is(version.access) {
		return false
	}
	h.pool.Follow(version.Dialer(jumpHostKeepalive))
	return true
}

func (n *Network) newJumpHost(ref Ref, version *Version) *jumpHost {
	return &jumpHost{Ref: ref, pool: n.NewPool(PoolOptions{
		Dialer: version.Dialer(jumpHostKeepalive), Limits: jumpHostLimits,
		Notify: func() { n.notify(ref) },
	})}
}

// SweepJumpHosts retires the jump hosts whose UIDs are not in use, as soon as nothing
// runs over them.
func (n *Network) SweepJumpHosts(used map[string]bool) {
	n.jumpHosts.mu.Lock()
	defer n.jumpHosts.mu.Unlock()
	for uid, h := range n.jumpHosts.byUID {
		if !used[uid] {
			delete(n.jumpHosts.byUID, uid)
			h.pool.Retire(jumpHostLimits.DrainTimeout, func() {})
			n.notify(h.Ref)
		}
	}
}

// JumpHost returns a jump host and its pool; nil if no target behind it is in use.
func (n *Network) JumpHost(uid string) (Ref, *Pool) {
	if h := n.jumpHosts.get(uid); h != nil {
		return h.Ref, h.pool
	}
	return Ref{}, nil
}

// RetryJumpHost lets a jump host be dialed at once, if it is dialed by the version,
// and reports whether it is.
func (n *Network) RetryJumpHost(uid string, by *Version) bool {
	h := n.jumpHosts.get(uid)
	if h == nil || h.version() != by {
		return false
	}
	h.retry()
	return true
}

// RetryBehind lets the jump hosts behind a jump host be dialed at once, since what
// stood in their way may be gone.
func (n *Network) RetryBehind(uid string) {
	behind := n.jumpHosts.matching(func(h *jumpHost) bool { return h.version().access.JumpHost.LeadsTo(uid) })
	for _, h := range behind {
		h.retry()
	}
}

// Close drains all jump hosts until ctx ends, cuts what is left, and returns when all
// is closed. Nothing may use the network any more.
func (n *Network) Close(ctx context.Context) {
	var pools []*Pool
	for _, h := range n.jumpHosts.matching(func(*jumpHost) bool { return true }) {
		pools = append(pools, h.pool)
	}
	DrainAll(ctx, pools)
}
