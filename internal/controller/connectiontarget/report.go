package connectiontarget

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// report returns the next status of the target. It is pure. The last status matters
// for transition times. It also keeps a good target ready while a connection is
// being replaced.
func report(
	f facts, decided decision, seen poolset.Observation, last v1alpha1.ConnectionTargetStatus, replica string,
) v1alpha1.ConnectionTargetStatus {
	slices.SortFunc(seen.Pools, func(a, b poolset.PoolObservation) int { return cmp.Compare(a.Pool.Name, b.Pool.Name) })
	kind, endpoint := f.target.Spec.Type(), endpointOf(f)
	if endpoint == "" && kind == ptr.Deref(last.Type, "") {
		endpoint = ptr.Deref(last.Endpoint, "") // of the connections that go on serving
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
	if len(seen.Pools) > 0 {
		next.Replica = optional(replica)
		if ptr.Deref(last.ObservedGeneration, 0) != f.target.Generation {
			last.Pools = nil // they are about an earlier spec
		}
		addUp(&next, seen.Pools, f.pools, last.Pools)
	}
	observed := seen.Pools
	if f.onlyJumpHost && seen.JumpHost != nil {
		observed = []poolset.PoolObservation{*seen.JumpHost}
		next.Replica, next.Connections = optional(replica), counts(*seen.JumpHost)
	}
	r := reporter{
		Conditions: status.Conditions{Now: f.now, Generation: f.target.Generation, Last: last.Conditions},
		problem:    decided.problem, pools: observed, failure: firstFailure(observed), warning: seen.Warning,
		onlyJumpHost: f.onlyJumpHost,
	}
	r.credentials()
	r.reachable()
	r.ready(next.Pools)
	r.progress()
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

// addUp fills in the pools' shares and their sums.
func addUp(
	next *v1alpha1.ConnectionTargetStatus, pools []poolset.PoolObservation,
	specs []v1alpha1.ConnectionPool, last []v1alpha1.TargetPoolStatus,
) {
	var total poolset.PoolObservation
	for _, pool := range pools {
		next.Pools = append(next.Pools, share(pool, specMinWarm(pool, specs), status.Share(last, types.UID(pool.Pool.UID))))
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

// specMinWarm returns the size.minWarm of the pool. A schedule may ask for more, but
// a target is ready without those.
func specMinWarm(pool poolset.PoolObservation, specs []v1alpha1.ConnectionPool) int {
	for i := range specs {
		if string(specs[i].UID) == pool.Pool.UID {
			return int(ptr.Deref(specs[i].Spec.Size.MinWarm, v1alpha1.DefaultMinWarm))
		}
	}
	return pool.MinWarm
}

func share(pool poolset.PoolObservation, least int, last *v1alpha1.TargetPoolStatus) v1alpha1.TargetPoolStatus {
	ready := isSatisfied(pool, least, last) || isReplacing(pool, least, last)
	own := v1alpha1.TargetPoolStatus{
		Name:                 pool.Pool.Name,
		UID:                  new(types.UID(pool.Pool.UID)),
		Ready:                &ready,
		MinWarm:              new(int32(least)),
		Desired:              new(int32(pool.MinWarm)),
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

func counts(pool poolset.PoolObservation) v1alpha1.ConnectionCounts {
	return v1alpha1.ConnectionCounts{
		Warm: new(int32(pool.Warm())), InUse: new(int32(pool.InUse)),
		Dialing: new(int32(pool.Dialing)), Draining: new(int32(pool.Draining)),
	}
}

// isSatisfied reports whether the pool has its warm connections and may count on
// them. If the target fails dials, its live connections still serve. But if the
// target was not ready before, its health must be Up first. Otherwise a target that
// accepts connections only to drop them would become ready with each.
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

// isReplacing reports whether a pool that had enough connections is replacing those
// that it lost, when the server or the operator restarted, and no dial has failed
// since.
func isReplacing(pool poolset.PoolObservation, least int, last *v1alpha1.TargetPoolStatus) bool {
	return !pool.Paused && pool.Health != poolset.HealthDown && pool.Dial.Failures == 0 && last != nil &&
		ptr.Deref(last.Ready, false) && int(ptr.Deref(last.MinWarm, 0)) == least
}

// shortfall returns the reason why a pool lacks connections.
func shortfall(pool poolset.PoolObservation) string {
	switch {
	case pool.Paused:
		return v1alpha1.ReasonPaused
	case pool.Err != nil:
		return string(pool.Err.Reason)
	}
	return v1alpha1.ReasonWarming
}

// reporter sets the conditions from the problem, if there is one, and from what is
// observed of the pools.
type reporter struct {
	status.Conditions
	problem *problem
	pools   []poolset.PoolObservation
	// failure is that of the first pool that has one.
	failure *driver.Error
	// warning says what is not used of what the target refers to.
	warning string
	// onlyJumpHost says that no pool selects the target, so that only its connections
	// as a jump host are observed.
	onlyJumpHost bool
}

// credentials sets CredentialsReady.
func (r *reporter) credentials() {
	refused := refusedCredentials(r.pools)
	switch {
	case r.problem != nil && r.problem.condition == v1alpha1.ConditionCredentialsReady:
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, r.problem.reason, r.problem.message)
	case r.problem != nil:
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionUnknown, r.problem.reason, "not looked at yet: "+r.problem.message)
	case r.failure != nil && r.failure.Reason.AboutDeclaration():
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, string(r.failure.Reason), r.failure.Message)
	case refused != nil:
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, v1alpha1.ReasonCredentialsInvalid,
			"connections made with the earlier credentials keep serving, because the changed ones do not work: "+refused.Message)
	case r.warning != "":
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionTrue, v1alpha1.ReasonCredentialsValid,
			"what the target refers to can be used, but "+r.warning)
	default:
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionTrue, v1alpha1.ReasonCredentialsValid,
			"everything that the target refers to can be used")
	}
}

// refusedCredentials returns why changed credentials do not work, if trying again
// does not help. A failure of the network says nothing about credentials.
func refusedCredentials(pools []poolset.PoolObservation) *driver.Error {
	for _, pool := range pools {
		if refused := pool.Refused(); refused != nil && refused.Reason.Permanent() {
			return refused
		}
	}
	return nil
}

// reachable sets Reachable. Until a dial ends it stays true, so that a restart of the
// operator does not change it.
func (r *reporter) reachable() {
	isUp := func(pool poolset.PoolObservation) bool { return pool.Health == poolset.HealthUp }
	switch {
	case r.problem != nil && r.problem.condition == v1alpha1.ConditionReachable:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionFalse, r.problem.reason, r.problem.message)
	case r.failure != nil:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionFalse, string(r.failure.Reason), r.failure.Error())
	case r.problem != nil && len(r.pools) == 0:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionUnknown, r.problem.reason, "not dialed: "+r.problem.message)
	case slices.ContainsFunc(r.pools, isUp), r.WasTrue(v1alpha1.ConditionReachable):
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionTrue, v1alpha1.ReasonConnected, "the target answers")
	default:
		r.Set(v1alpha1.ConditionReachable, metav1.ConditionUnknown, v1alpha1.ReasonPending, "no dial has ended yet")
	}
}

// firstFailure returns the failure of the first pool that has one.
func firstFailure(pools []poolset.PoolObservation) *driver.Error {
	for _, pool := range pools {
		if pool.Err != nil {
			return pool.Err
		}
	}
	return nil
}

// ready sets Ready.
func (r *reporter) ready(shares []v1alpha1.TargetPoolStatus) {
	switch {
	case r.problem != nil && (len(r.pools) == 0 || r.onlyJumpHost):
		r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, r.problem.reason, r.problem.message)
		return
	case r.onlyJumpHost:
		r.jumpHostReady()
		return
	case len(r.pools) == 0:
		r.Set(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPending, "the operator has not looked at it yet")
		return
	}
	paused := 0
	for i, pool := range r.pools {
		switch {
		case pool.Paused:
			paused++
		case !*shares[i].Ready:
			r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, shortfall(pool), explain(pool))
			return
		}
	}
	if paused == len(r.pools) {
		r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPaused,
			"every pool that selects this target is paused; set spec.state of one to Active")
		return
	}
	r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm, "every pool has its warm connections")
}

// jumpHostReady sets Ready of a jump host that no pool selects. The operator connects
// to it only when it dials a target behind it, so the jump host is ready unless it
// fails.
func (r *reporter) jumpHostReady() {
	for _, jumpHost := range r.pools {
		if jumpHost.Err != nil && jumpHost.Warm() == 0 {
			r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, string(jumpHost.Err.Reason), jumpHost.Err.Error())
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

// progress adds Reconciling or Stalled. By the rules of kstatus they are there only
// while they are true.
func (r *reporter) progress() {
	ready := r.Find(v1alpha1.ConditionReady)
	switch {
	case r.problem != nil && r.problem.reason == v1alpha1.ReasonPending:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonPending, r.problem.message)
	case r.problem != nil && r.problem.stalls():
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, r.problem.reason, r.problem.message)
	case ready.Status == metav1.ConditionTrue:
		r.rotating()
	case driver.Reason(ready.Reason).Permanent():
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, ready.Reason, ready.Message)
	case r.failure != nil:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRetrying, "the next attempt follows by itself")
	case ready.Reason == v1alpha1.ReasonWarming:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming, ready.Message)
	}
}

// rotating adds Stalled or Reconciling while changed credentials are being tried.
func (r *reporter) rotating() {
	isRotating := func(pool poolset.PoolObservation) bool { return pool.Rotation.Pending }
	if failure := refusedCredentials(r.pools); failure != nil {
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsInvalid,
			"the changed credentials do not work: "+failure.Message)
	} else if slices.ContainsFunc(r.pools, isRotating) {
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRotating,
			"changed credentials are being tried before they replace the earlier ones")
	}
}

// maxErrorMessage is the longest lastError.message that the API accepts, in bytes.
const maxErrorMessage = 1024

// lastError returns the newest failure, or the problem; nil if there is neither.
func lastError(found *problem, pools []poolset.PoolObservation) *v1alpha1.TargetError {
	failure := firstFailure(pools)
	for _, pool := range pools {
		if failure == nil {
			failure = pool.Refused()
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

// shorten cuts a message to what the API accepts. The API would refuse the whole
// status otherwise.
func shorten(message string) string {
	if len(message) <= maxErrorMessage {
		return message
	}
	const more = "..."
	return strings.ToValidUTF8(message[:maxErrorMessage-len(more)], "") + more
}
