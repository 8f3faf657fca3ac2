// Package reach makes connections to targets: it knows how a target is reached and
// when it may be dialed.
//
// An Access says how to reach a target, and a Version is one version of that, which
// all pools of the target share. Its Dialers, one for each pool, have one verb: Dial
// passes the breaker of the version, waits until the jump host is connected, takes a
// place in the dial budget, obeys the throttle of the server, and calls the driver.
// A Pool is a connpool.Pool whose connections are dialed in this way and which
// follows its access from version to version. The connections to a jump host are
// such a Pool, too, which the targets behind it share.
//
// Usage: Network.Version finds or makes the version of an access, Version.Prepare
// examines it, Version.Dialer makes a dialer, NewPool a pool; Pool.Follow gives it the
// next dialer. Network.EnsureJumpHost makes a jump host known.
//
// Which replica of the operator dials a target will be decided here, above the breaker,
// once several replicas hold connections.
//
// Order of locks: that of the Network, that of a Pool, that of whatever its Changed
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
	"sync"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach/preparation"
	"github.com/connpool/connpool/internal/reach/refusals"
)

// Network is what the dials of a process share: the transport, the dial budget, the
// throttles and the jump hosts. Its methods are safe for concurrent use.
type Network struct {
	direct     transport // from the operator's own network
	budget     *dialbudget.Budget
	throttles  *refusals.Throttles
	background *background.Work
	shares     *preparation.Shares
	// connections bounds those of each namespace.
	connections *connections
	notify      func(Ref)

	mu        sync.RWMutex
	jumpHosts map[string]jumpHost // those in use, by their UIDs
	// candidates are versions that no target and no jump host uses yet, because they
	// are being prepared or cannot be; by UID.
	candidates map[string]*Version
}

// jumpHost is the pooled connections to one jump host. It connects when the first
// target behind it is dialed.
type jumpHost struct {
	Ref
	*Pool
}

// New returns a network without jump hosts. Streams from the operator's own network
// are opened by egress. notify is called with each jump host whose state has
// changed; it must neither block nor call the network.
func New(egress driver.DialFunc, budget *dialbudget.Budget, work *background.Work, notify func(Ref)) *Network {
	return &Network{
		direct:      transport{ready: func(context.Context) error { return nil }, dial: egress, reopen: egress},
		budget:      budget,
		throttles:   refusals.NewThrottles(),
		background:  work,
		shares:      preparation.NewShares(),
		connections: &connections{held: map[string]int{}},
		notify:      notify,
		jumpHosts:   map[string]jumpHost{},
		candidates:  map[string]*Version{},
	}
}

// Version returns the version that the access of a target describes. It is that of
// the jump host with the same UID, if there is one and it has this version, so that
// a target and the jump host that it is for others learn from one another. A new
// version is remembered until Used or Forget is called.
func (n *Network) Version(of Ref, access Access) *Version {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h, known := n.jumpHosts[of.UID]; known && h.Version().Is(access) {
		return h.Version()
	}
	if v := n.candidates[of.UID]; v.Is(access) {
		return v
	}
	v := n.newVersion(of, access)
	n.candidates[of.UID] = v
	return v
}

func (n *Network) newVersion(of Ref, access Access) *Version {
	v := &Version{
		namespace: of.Namespace, access: access, transport: n.direct, budget: n.budget, throttles: n.throttles, connections: n.connections,
	}
	v.preparation = n.shares.New(of.Namespace, access.Driver, &v.access.Endpoint)
	if through := access.JumpHost; through != nil {
		v.transport = tunnel{through.Ref, func() *Pool {
			_, pool := n.JumpHost(through.UID)
			return pool
		}}.transport()
	}
	return v
}

// Used tells the network that a version is used from now on, so that its user knows
// it.
func (n *Network) Used(uid string, version *Version) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.candidates[uid] == version {
		delete(n.candidates, uid)
	}
}

// Forget forgets the version of a target that is not used yet.
func (n *Network) Forget(uid string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.candidates, uid)
}

// EnsureJumpHost makes a jump host usable by targets behind it, by the version, and
// reports whether it existed with another one.
func (n *Network) EnsureJumpHost(ref Ref, version *Version) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.candidates, ref.UID)
	dialer := version.Dialer(jumpHostKeepalive)
	dialer.forwardOnly = true
	switch h, known := n.jumpHosts[ref.UID]; {
	case !known:
		n.jumpHosts[ref.UID] = jumpHost{ref, NewPool(n.background, PoolOptions{
			Dialer: dialer, Limits: jumpHostLimits, Notify: func() { n.notify(ref) },
			Dialed: func(*Dialer, *Conn, error) {}, Changed: func(Change) {},
		})}
	case !h.Version().Is(version.access):
		h.Follow(dialer)
		return true
	}
	return false
}

// SweepJumpHosts drains the jump hosts whose UIDs are not in use: their connections
// close when nothing runs over them any more.
func (n *Network) SweepJumpHosts(used map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid, h := range n.jumpHosts {
		if !used[uid] {
			delete(n.jumpHosts, uid)
			h.StartDrain(jumpHostLimits.DrainTimeout, func() {})
			n.notify(h.Ref)
		}
	}
}

// JumpHost returns a jump host and its pool; nil if no target behind it is in use.
func (n *Network) JumpHost(uid string) (Ref, *Pool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	h := n.jumpHosts[uid]
	return h.Ref, h.Pool
}

// RecycleJumpHosts retires the connections to jump hosts, given by UID, that are not
// retiring yet, and returns how many these are.
func (n *Network) RecycleJumpHosts(uids map[string]bool) (retired int) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for uid, h := range n.jumpHosts {
		if uids[uid] {
			retired += h.RecycleAll()
		}
	}
	return retired
}

// RetryBehind lets the jump hosts behind a jump host be dialed at once, since what
// stood in their way may be gone.
func (n *Network) RetryBehind(uid string) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, h := range n.jumpHosts {
		if h.Version().JumpHost().LeadsTo(uid) {
			h.Retry()
		}
	}
}

// Close drains all jump hosts until ctx ends, cuts what is left, and returns when all
// is closed. Nothing may use the network any more.
func (n *Network) Close(ctx context.Context) {
	var pools []*Pool
	for _, h := range n.jumpHosts {
		pools = append(pools, h.Pool)
	}
	DrainAll(ctx, pools)
}
