package poolset

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/reach"
)

// removalGrace bounds how long leases may go on after their target, its pool or its
// Secret was deleted: the right to use it was taken away on purpose.
const removalGrace = 30 * time.Second

// applier brings the roster and the jump hosts in line with what is declared.
type applier struct {
	roster     *roster
	network    *reach.Network
	background *background.Work
	notify     func(Ref)
	meter      Meter // nil if nothing is measured
}

// ensure makes the pools of a target as wanted.
func (a *applier) ensure(want Target) error {
	version, err := a.prepare(&want)
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
		have = &target{kind: want.Type}
		a.roster.targets[want.UID] = have
	case err != nil && !have.version.MayServe(want.Access, err):
		a.remove(want.UID, graceOf(err))
		return err
	}
	have.refused = nil
	if err != nil && !isPreparing(err) {
		have.refused = err
	}
	before := have.jumpHost
	a.removeUnwanted(have, want.Pools)
	if version != nil || have.version.Identity() == want.Identity {
		a.describe(have, want)
	}
	a.updateMembers(have, want.Pools, version)
	if len(have.members) == 0 {
		delete(a.roster.targets, want.UID)
		a.sweepJumpHosts()
	} else if !have.jumpHost.IsSamePath(before) {
		a.sweepJumpHosts()
	}
	return err
}

// graceOf returns how long leases may go on although no new ones are served because of
// err: while the credentials for another host are being prepared, as long as the pools say.
func graceOf(err error) time.Duration {
	if isPreparing(err) {
		return math.MaxInt64
	}
	return removalGrace
}

// isPreparing reports whether it is not known yet whether an access can be used.
func isPreparing(err error) bool {
	_, preparing := errors.AsType[*PreparingError](err)
	return preparing
}

// prepare returns the version by which the target is to be reached; nil, and why, if
// its access cannot be used or is being prepared, and nil without pools. It gives a
// target whose access does not tell which host or account is meant the identity that it
// had. The caller must not hold the roster's lock.
func (a *applier) prepare(want *Target) (*reach.Version, error) {
	if len(want.Pools) == 0 {
		a.network.Forget(want.UID)
		return nil, nil //nolint:nilnil // no version is needed
	}
	a.roster.mu.RLock()
	if have := a.roster.targets[want.UID]; want.Identity == "" && have != nil && have.kind == want.Type {
		want.Identity = have.version.Identity()
	}
	version := a.version(want.Ref, want.Access)
	a.roster.mu.RUnlock()
	if err := version.Prepare(a.background, func() { a.notify(want.Ref) }); err != nil {
		return nil, err
	}
	return version, nil
}

// version returns the version that the access describes: the one by which the
// target, or the jump host that it is for others, is reached now, or a new one. The
// caller holds the roster's lock.
func (a *applier) version(of Ref, access Access) *reach.Version {
	if t := a.roster.targets[of.UID]; t != nil && t.version.Is(access) {
		return t.version
	}
	return a.network.Version(of, access)
}

// describe takes over what a target is, and makes its jump hosts as wanted. What was
// counted of another protocol stays with that.
func (a *applier) describe(have *target, want Target) {
	if have.kind != want.Type {
		for _, m := range have.members {
			a.removeMember(have, m, m.policy.DrainTimeout)
		}
	}
	have.Ref, have.kind, have.jumpHost = want.Ref, want.Type, want.JumpHost
	a.ensureJumpHosts(want.JumpHost)
}

// removeUnwanted removes the pools that no longer want the target.
func (a *applier) removeUnwanted(have *target, pools []Pool) {
	for _, m := range have.members {
		if !slices.ContainsFunc(pools, func(wanted Pool) bool { return wanted.UID == m.owner.UID }) {
			a.removeMember(have, m, removalGrace)
		}
	}
}

// updateMembers applies the policies and the version; without a version it keeps
// the old one and adds no pool.
func (a *applier) updateMembers(have *target, pools []Pool, version *reach.Version) {
	if version != nil {
		have.version = version
		a.network.Used(have.UID, version)
	}
	for _, pool := range pools {
		m := have.member(pool.UID)
		switch {
		case version == nil:
		case m == nil:
			m = newMember(a, have, pool, version.Dialer(pool.keepalive()))
			a.roster.add(have, m)
		case !m.pool.Dialer().Is(version, pool.keepalive()):
			m.kind.Store(new(have.kind))
			m.pool.Follow(version.Dialer(pool.keepalive()))
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
		if a.network.EnsureJumpHost(jumpHost.Ref, a.version(jumpHost.Ref, jumpHost.Access)) {
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

// refusalOf returns why the newest access of a target cannot be used, while an earlier
// one serves; nil if it can, or if that is not known yet.
func (a *applier) refusalOf(uid string) error {
	a.roster.mu.RLock()
	defer a.roster.mu.RUnlock()
	if t := a.roster.targets[uid]; t != nil {
		return t.refused
	}
	return nil
}

// isPooled reports whether a pool has the target, so that it is not only a jump host.
func (a *applier) isPooled(uid string) bool {
	a.roster.mu.RLock()
	defer a.roster.mu.RUnlock()
	return a.roster.targets[uid] != nil
}

// remove forgets a target and drains its pools. The caller holds the roster's lock.
func (a *applier) remove(uid string, grace time.Duration) {
	have := a.roster.targets[uid]
	if have == nil {
		return
	}
	for _, m := range have.members {
		a.removeMember(have, m, grace)
	}
	delete(a.roster.targets, uid)
	a.sweepJumpHosts()
}

// removeMember takes a member out of the roster and drains it in the background, for
// at most the grace.
func (a *applier) removeMember(have *target, m *member, grace time.Duration) {
	a.roster.take(have, m)
	m.pool.StartDrain(min(m.policy.DrainTimeout, grace), func() { a.roster.drained(m) })
}
