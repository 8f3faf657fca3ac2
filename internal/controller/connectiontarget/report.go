package connectiontarget

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// report is pure: it says what is true of the target as a status. The last
// status matters for transition times, and so that a connection which is being
// replaced does not make a good target look bad.
func report(
	f facts, decided decision, seen poolset.Observation, last v1alpha1.ConnectionTargetStatus, replica string,
) v1alpha1.ConnectionTargetStatus {
	slices.SortFunc(seen.Pools, func(a, b poolset.PoolObservation) int { return cmp.Compare(a.Pool.Name, b.Pool.Name) })
	kind, endpoint := f.target.Spec.Type(), endpointOf(f)
	if endpoint == "" && kind == ptr.Deref(last.Type, "") {
		endpoint = ptr.Deref(last.Endpoint, "") // of what goes on serving
	}
	next := v1alpha1.ConnectionTargetStatus{
		ObservedGeneration: &f.target.Generation,
		Type:               &kind,
		Endpoint:           optional(endpoint),
		ServerVersion:      optional(cmp.Or(seen.ServerVersion, ptr.Deref(last.ServerVersion, ""))),
	}
	if endpoint != ptr.Deref(last.Endpoint, "") {
		next.ServerVersion = optional(seen.ServerVersion)
	}
	current := ptr.Deref(last.ObservedGeneration, 0) == f.target.Generation
	if len(seen.Pools) > 0 {
		next.Replica = optional(replica)
		shares := last.Pools
		if !current {
			shares = nil
		}
		addUp(&next, seen.Pools, f.pools, shares)
	}
	observed := seen.Pools
	if f.onlyJumpHost && seen.Hop != nil {
		observed = []poolset.PoolObservation{*seen.Hop}
		next.Replica, next.Connections = optional(replica), counts(*seen.Hop)
	}
	r := reporter{
		Conditions:   status.Conditions{Now: f.now, Generation: f.target.Generation, Last: last.Conditions},
		onlyJumpHost: f.onlyJumpHost,
	}
	r.setConditions(decided.problem, observed, next.Pools)
	next.Conditions = r.List
	next.LastError = lastError(decided.problem, observed)
	return next
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// addUp fills in the figures.
func addUp(
	next *v1alpha1.ConnectionTargetStatus, pools []poolset.PoolObservation,
	specs []v1alpha1.ConnectionPool, last []v1alpha1.TargetPoolStatus,
) {
	var total poolset.PoolObservation
	for _, pool := range pools {
		next.Pools = append(next.Pools, share(pool, specMinWarm(pool, specs), lastShare(last, pool.Pool.UID)))
		total.Idle += pool.Idle
		total.InUse += pool.InUse
		total.Dialing += pool.Dialing
		total.Draining += pool.Draining
		total.Uses += pool.Uses
		if total.Oldest.IsZero() || (!pool.Oldest.IsZero() && pool.Oldest.Before(total.Oldest)) {
			total.Oldest = pool.Oldest
		}
		if pool.LastUsed.After(total.LastUsed) {
			total.LastUsed = pool.LastUsed
		}
	}
	next.Connections = counts(total)
	next.UseCount = &total.Uses
	next.OldestConnectionTime = status.Seconds(total.Oldest)
	next.LastUsedTime = status.Seconds(total.LastUsed)
}

// specMinWarm is the minimum that the pool's spec asks for. A schedule may keep
// more, but a target is ready without them.
func specMinWarm(pool poolset.PoolObservation, specs []v1alpha1.ConnectionPool) int {
	for i := range specs {
		if string(specs[i].UID) == pool.Pool.UID {
			return minWarm(&specs[i].Spec)
		}
	}
	return pool.MinWarm
}

func share(pool poolset.PoolObservation, least int, last *v1alpha1.TargetPoolStatus) v1alpha1.TargetPoolStatus {
	uid, wanted, desired := types.UID(pool.Pool.UID), int32(least), int32(pool.MinWarm)
	ready := isSatisfied(pool, least, last) || isReplacing(pool, least, last)
	own := v1alpha1.TargetPoolStatus{
		Name:                 pool.Pool.Name,
		UID:                  &uid,
		Ready:                &ready,
		MinWarm:              &wanted,
		Desired:              &desired,
		Connections:          counts(pool),
		UseCount:             &pool.Uses,
		OldestConnectionTime: status.Seconds(pool.Oldest),
		LastUsedTime:         status.Seconds(pool.LastUsed),
	}
	if !ready {
		own.Reason = optional(shortfall(pool))
	}
	return own
}

func lastShare(shares []v1alpha1.TargetPoolStatus, uid string) *v1alpha1.TargetPoolStatus {
	for i := range shares {
		if string(ptr.Deref(shares[i].UID, "")) == uid {
			return &shares[i]
		}
	}
	return nil
}

func counts(pool poolset.PoolObservation) v1alpha1.ConnectionCounts {
	warm, inUse := int32(pool.Warm()), int32(pool.InUse)
	dialing, draining := int32(pool.Dialing), int32(pool.Draining)
	return v1alpha1.ConnectionCounts{Warm: &warm, InUse: &inUse, Dialing: &dialing, Draining: &draining}
}

// isSatisfied reports whether the pool has the connections that it wants, and
// may believe in them. Those of a target that takes no more dials do serve, but
// one that was not ready must be up again first, or it would flap with every
// connection that it takes only to drop it.
func isSatisfied(pool poolset.PoolObservation, least int, last *v1alpha1.TargetPoolStatus) bool {
	if pool.Paused || pool.Warm() < least {
		return false
	}
	if pool.Health != poolset.HealthDown {
		return true
	}
	served := least > 0 && last != nil && ptr.Deref(last.Ready, false)
	return served && pool.Err.Reason != driver.ProbeFailed
}

// isReplacing reports that a pool which had enough connections is making up for
// those that went away, with a server or with the operator's last process, and
// nothing says that it will fail.
func isReplacing(pool poolset.PoolObservation, least int, last *v1alpha1.TargetPoolStatus) bool {
	return !pool.Paused && pool.Health != poolset.HealthDown && pool.Dial.Failures == 0 && last != nil &&
		ptr.Deref(last.Ready, false) && int(ptr.Deref(last.MinWarm, 0)) == least
}

// shortfall is why a pool lacks connections.
func shortfall(pool poolset.PoolObservation) string {
	switch {
	case pool.Paused:
		return v1alpha1.ReasonPaused
	case pool.Err != nil:
		return string(pool.Err.Reason)
	}
	return v1alpha1.ReasonWarming
}

// reporter collects conditions.
type reporter struct {
	status.Conditions
	// onlyJumpHost says that no pool selects the target: what is observed of it is
	// its connections as a jump host.
	onlyJumpHost bool
}

// setConditions writes the conditions from what stands in the way and what is seen.
func (r *reporter) setConditions(found *problem, pools []poolset.PoolObservation, shares []v1alpha1.TargetPoolStatus) {
	r.credentials(found, pools)
	r.reachable(found, pools)
	r.ready(found, pools, shares)
	r.progress(found, pools)
}

func (r *reporter) credentials(found *problem, pools []poolset.PoolObservation) {
	if found != nil && found.condition == v1alpha1.ConditionCredentialsReady {
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, found.reason, found.message)
		return
	}
	if found != nil {
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionUnknown, found.reason, "not looked at yet: "+found.message)
		return
	}
	if failure := firstFailure(pools); failure != nil && failure.Reason.AboutDeclaration() {
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, string(failure.Reason), failure.Message)
		return
	}
	if refused := refusedCredentials(pools); refused != nil {
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, v1alpha1.ReasonCredentialsInvalid,
			"connections made with the earlier credentials keep serving, because the changed ones do not work: "+refused.Message)
		return
	}
	r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionTrue, v1alpha1.ReasonCredentialsValid,
		"everything that the target refers to can be used")
}

// refusedCredentials is why changed credentials do not work, if trying again will not help.
// One that is due to the network says nothing of them.
func refusedCredentials(pools []poolset.PoolObservation) *driver.Error {
	for _, pool := range pools {
		if pool.Refused != nil && pool.Refused.Reason.Permanent() {
			return pool.Refused
		}
	}
	return nil
}

func (r *reporter) reachable(found *problem, pools []poolset.PoolObservation) {
	failure := firstFailure(pools)
	switch {
	case found != nil && found.condition == v1alpha1.ConditionReachable:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionFalse, found.reason, found.message)
	case failure != nil:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionFalse, string(failure.Reason), failure.Error())
	case found != nil && len(pools) == 0:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionUnknown, found.reason, "not dialed: "+found.message)
	case slices.ContainsFunc(pools, isUp), r.wasReachable():
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionTrue, v1alpha1.ReasonConnected, "the target answers")
	default:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionUnknown, v1alpha1.ReasonPending, "no dial has ended yet")
	}
}

// wasReachable reports that the last verdict on the present spec was a good one.
// It holds until there is another, so that a restart of the operator is no news.
func (r *reporter) wasReachable() bool {
	last := meta.FindStatusCondition(r.Last, v1alpha1.ConditionReachable)
	return last != nil && last.Status == metav1.ConditionTrue && last.ObservedGeneration == r.Generation
}

func isUp(pool poolset.PoolObservation) bool { return pool.Health == poolset.HealthUp }

// firstFailure is the failure of the first pool that has one.
func firstFailure(pools []poolset.PoolObservation) *driver.Error {
	for _, pool := range pools {
		if pool.Err != nil {
			return pool.Err
		}
	}
	return nil
}

func (r *reporter) ready(found *problem, pools []poolset.PoolObservation, shares []v1alpha1.TargetPoolStatus) {
	switch {
	case found != nil && (len(pools) == 0 || r.onlyJumpHost):
		r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, found.reason, found.message)
		return
	case r.onlyJumpHost:
		r.jumpHostReady(pools)
		return
	case len(pools) == 0:
		r.Set(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPending, "the operator has not looked at it yet")
		return
	}
	paused := 0
	for i, pool := range pools {
		switch {
		case pool.Paused:
			paused++
		case !*shares[i].Ready:
			r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, shortfall(pool), explain(pool))
			return
		}
	}
	if paused == len(pools) {
		r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPaused,
			"every pool that selects this target is paused; set spec.state of one to Active")
		return
	}
	r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm, "every pool has its warm connections")
}

// jumpHostReady judges a jump host: it is connected when a target behind it is
// dialed, so only a failure says that it is not ready.
func (r *reporter) jumpHostReady(hops []poolset.PoolObservation) {
	for _, hop := range hops {
		if hop.Err != nil && hop.Warm() == 0 {
			r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, string(hop.Err.Reason), hop.Err.Error())
			return
		}
	}
	r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonJumpHost,
		"no pool selects it; it is connected whenever a target that is reached through it needs it")
}

func explain(pool poolset.PoolObservation) string {
	if pool.Err != nil {
		return pool.Err.Error()
	}
	return fmt.Sprintf("connections for pool %s are being made", pool.Pool.Name)
}

// progress adds Reconciling or Stalled, as kstatus wants them: only while true.
func (r *reporter) progress(found *problem, pools []poolset.PoolObservation) {
	ready := r.Find(v1alpha1.ConditionReady)
	failure := firstFailure(pools)
	switch {
	case found != nil && found.stalls():
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, found.reason, found.message)
	case ready.Status == metav1.ConditionTrue:
		r.rotating(pools)
	case driver.Reason(ready.Reason).Permanent():
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, ready.Reason, ready.Message)
	case failure != nil:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRetrying, "the next attempt follows by itself")
	case ready.Reason == v1alpha1.ReasonWarming:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming, ready.Message)
	}
}

func (r *reporter) rotating(pools []poolset.PoolObservation) {
	if refused := refusedCredentials(pools); refused != nil {
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsInvalid,
			"the changed credentials do not work: "+refused.Message)
		return
	}
	for _, pool := range pools {
		if pool.Rotating {
			r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRotating,
				"changed credentials are being tried before they replace the earlier ones")
			return
		}
	}
}

// maxErrorMessage is how long the API lets lastError.message be.
const maxErrorMessage = 1024

// lastError is the newest failure, for those who look at the figures.
func lastError(found *problem, pools []poolset.PoolObservation) *v1alpha1.TargetError {
	failure := firstFailure(pools)
	for _, pool := range pools {
		if failure == nil {
			failure = pool.Refused
		}
	}
	switch {
	case failure != nil:
		return &v1alpha1.TargetError{
			Reason:  string(failure.Reason),
			Message: shorten(cmp.Or(failure.Message, string(failure.Reason))),
			Stage:   optional(string(failure.Stage)),
		}
	case found != nil && found.condition != "":
		return &v1alpha1.TargetError{Reason: found.reason, Message: shorten(found.message)}
	}
	return nil
}

// shorten cuts a message that the API would refuse together with the whole
// status.
func shorten(message string) string {
	if len(message) <= maxErrorMessage {
		return message
	}
	const more = "..."
	return strings.ToValidUTF8(message[:maxErrorMessage-len(more)], "") + more
}
