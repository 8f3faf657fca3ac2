package poolset

import (
	"slices"
	"time"

	"github.com/connpool/connpool/internal/reach"
)

// removalGrace bounds how long leases may go on after their target, its pool or its
// Secret was deleted: the right to use it was taken away on purpose.
const removalGrace = 30 * time.Second

// applier brings the roster and the jump hosts in line with what is declared.
type applier struct {
	roster     *roster
	network    *reach.Network
	background *reach.Background
	notify     func(Ref)
}

// ensure makes the pools of a target as wanted.
func (a *applier) ensure(want Target) error {
	version, dialers, err := a.prepare(&want)
	a.roster.mu.Lock()
	defer a.roster.mu.Unlock()
	if a.roster.closed {
		return nil
	}
	have := a.roster.targets[want.UID]
	switch {
	case have == nil && (err != nil || len(want.Pools) == 0):
		return err
	case have == nil:
		have = &target{members: map[string]*member{}}
		a.roster.targets[want.UID] = have
	case err != nil && !have.version.MayServe(want.Access, err):
		a.remove(want.UID)
		return err
	}
	have.Ref, have.kind, have.jumpHost = want.Ref, want.Type, want.JumpHost
	a.removeUnwanted(have, want.Pools)
	a.ensureJumpHosts(want.JumpHost)
	a.updateMembers(have, want.Pools, version, dialers)
	if len(have.members) == 0 {
		delete(a.roster.targets, want.UID)
	}
	a.sweepJumpHosts()
	return err
}

// prepare returns the version by which the target is to be reached, nil if its access
// cannot be used, and the dialers of the pools that have to dial in another way than
// now, by UID. It gives a target whose access does not tell which host or account is
// meant the identity that it had. The caller must not hold the roster's lock.
func (a *applier) prepare(want *Target) (version *reach.Version, dialers map[string]*reach.Dialer, err error) {
	a.roster.mu.RLock()
	if have := a.roster.targets[want.UID]; want.Identity == "" && have != nil && have.kind == want.Type {
		want.Identity = have.version.Identity()
	}
	version = a.version(want.UID, want.Access)
	a.roster.mu.RUnlock()

	dialers = map[string]*reach.Dialer{}
	for _, pool := range want.Pools {
		m := a.roster.member(pool.UID, want.UID)
		if m != nil && m.pool.Dialer().Is(version, pool.keepalive()) {
			continue
		}
		dialer := version.Dialer(pool.keepalive())
		if err := dialer.Prepare(); err != nil {
			return nil, nil, err
		}
		dialers[pool.UID] = dialer
	}
	return version, dialers, nil
}

// version returns the version that the access describes: the one by which the
// target, or the jump host that it is for others, is reached now, or a new one. The
// caller holds the roster's lock.
func (a *applier) version(uid string, access Access) *reach.Version {
	if t := a.roster.targets[uid]; t != nil && t.version.Is(access) {
		return t.version
	}
	return a.network.Version(uid, access)
}

// removeUnwanted removes the pools that no longer want the target.
func (a *applier) removeUnwanted(have *target, pools []Pool) {
	for uid, m := range have.members {
		if !slices.ContainsFunc(pools, func(wanted Pool) bool { return wanted.UID == uid }) {
			a.removeMember(have, m)
		}
	}
}

// updateMembers applies the policies and the version; without a version it keeps
// the old one and adds no pool.
func (a *applier) updateMembers(
	have *target, pools []Pool, version *reach.Version, dialers map[string]*reach.Dialer,
) {
	if version != nil {
		have.version = version
	}
	for _, pool := range pools {
		m, dialer := have.members[pool.UID], dialers[pool.UID]
		switch {
		case m == nil && dialer != nil:
			m = newMember(a.background, have.Ref, pool, dialer, a.notify)
			a.roster.add(have, m)
		case dialer != nil:
			m.pool.Follow(dialer)
		}
		if m != nil {
			m.apply(pool.Policy)
		}
	}
}

// ensureJumpHosts makes the jump hosts as wanted: new credentials are proven before
// the connections made with the old ones are retired.
func (a *applier) ensureJumpHosts(jumpHost *JumpHost) {
	for ; jumpHost != nil; jumpHost = jumpHost.JumpHost {
		if a.network.EnsureJumpHost(jumpHost.Ref, a.version(jumpHost.UID, jumpHost.Access)) {
			a.retryBehind(jumpHost.UID)
		}
	}
}

// sweepJumpHosts drains the jump hosts that no target uses any more.
func (a *applier) sweepJumpHosts() {
	used := map[string]bool{}
	for _, t := range a.roster.targets {
		for jumpHost := t.jumpHost; jumpHost != nil; jumpHost = jumpHost.JumpHost {
			used[jumpHost.UID] = true
		}
	}
	a.network.SweepJumpHosts(used)
}

// retryBehind lets everything behind a jump host be dialed at once, since what stood
// in the way may be gone. The caller holds the roster's lock.
func (a *applier) retryBehind(uid string) {
	a.network.RetryBehind(uid)
	for _, t := range a.roster.targets {
		if t.jumpHost.LeadsTo(uid) {
			t.retry()
		}
	}
}

// proven lets every caller dial who was kept from it by failures of the version,
// which a check has proved just now.
func (a *applier) proven(uid string, version *reach.Version) {
	a.roster.mu.RLock()
	defer a.roster.mu.RUnlock()
	if t := a.roster.targets[uid]; t != nil && t.version == version {
		t.retry()
	}
	if _, pool := a.network.JumpHost(uid); pool != nil && pool.Version() == version {
		pool.Retry()
		a.retryBehind(uid)
	}
}

// versionInUse is how a target, or a jump host, is dialed now; nil if it is not.
func (a *applier) versionInUse(uid string) *reach.Version {
	a.roster.mu.RLock()
	defer a.roster.mu.RUnlock()
	if t := a.roster.targets[uid]; t != nil {
		return t.version
	}
	if _, pool := a.network.JumpHost(uid); pool != nil {
		return pool.Version()
	}
	return nil
}

// remove forgets a target and drains its pools. The caller holds the roster's lock.
func (a *applier) remove(uid string) {
	have := a.roster.targets[uid]
	if have == nil {
		return
	}
	for _, m := range have.members {
		a.removeMember(have, m)
	}
	delete(a.roster.targets, uid)
	a.sweepJumpHosts()
}

// removeMember takes a member out of the roster and drains it in the background.
func (a *applier) removeMember(have *target, m *member) {
	a.roster.take(have, m)
	m.pool.StartDrain(min(m.policy.DrainTimeout, removalGrace), func() { a.roster.drained(m) })
}
