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
	"github.com/connpool/connpool/internal/controller/shares"
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
		ObservedGeneration: new(f.target.Generation),
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
		next.Replica, next.Connections = optional(replica), shares.Counts(*seen.JumpHost)
	}
	r := reporter{
		Conditions: status.Conditions{Now: f.now, Generation: f.target.Generation, Last: last.Conditions},
		problem:    decided.problem, pools: observed, failure: firstFailure(observed), warning: seen.Warning,
		onlyJumpHost: f.onlyJumpHost,
	}
	r.growing = shares.IsGrowing(next.Pools, last)
	r.credentials()
	r.reachable()
	r.ready(next.Pools)
	r.progress()
	next.Conditions, next.Summary = r.List, column(r.List)
	next.LastError = lastError(decided.problem, observed)
	return next
}

// isArrival reports whether a target that neither served nor failed is about to serve, and
// nothing fails on the way.
func isArrival(last, next v1alpha1.ConnectionTargetStatus) bool {
	before := meta.FindStatusCondition(last.Conditions, v1alpha1.ConditionReady)
	after := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionReady)
	return (before == nil || before.Status != metav1.ConditionTrue) &&
		(after.Reason == v1alpha1.ReasonWarming || after.Reason == v1alpha1.ReasonPending) &&
		!fails(last.Conditions) && !fails(next.Conditions)
}

func fails(conditions []metav1.Condition) bool {
	return status.Failure(conditions, v1alpha1.ConditionReady, v1alpha1.ConditionStalled,
		v1alpha1.ConditionCredentialsReady, v1alpha1.ConditionReachable) != nil
}

// column returns what the column STATUS shows.
func column(conditions []metav1.Condition) *string {
	var failures []string
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionCredentialsReady, v1alpha1.ConditionReachable} {
		if failure := status.Failure(conditions, kind); failure != nil {
			failures = append(failures, failure.Reason)
		}
	}
	return status.Summary(conditions, failures...)
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
		next.Pools = append(next.Pools, shares.Of(pool, specMinWarm(pool, specs), status.Share(last, types.UID(pool.Pool.UID))))
		total.Idle += pool.Idle
		total.InUse += pool.InUse
		total.Dialing += pool.Dialing
		total.Draining += pool.Draining
		if total.Oldest.IsZero() || (!pool.Oldest.IsZero() && pool.Oldest.Before(total.Oldest)) {
			total.Oldest = pool.Oldest
		}
		if pool.LastUsed.After(total.LastUsed) {
			total.LastUsed = pool.LastUsed
		}
	}
	next.Connections = shares.Counts(total)
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
	// growing says that what serves is to have more connections.
	growing bool
}

// credentials sets CredentialsReady.
func (r *reporter) credentials() {
	refused := refusedCredentials(r.pools)
	switch {
	case r.problem != nil && r.problem.condition == v1alpha1.ConditionCredentialsReady:
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionFalse, r.problem.reason, r.problem.message)
	case r.problem != nil:
		r.Set(v1alpha1.ConditionCredentialsReady, metav1.ConditionUnknown, r.problem.reason, "not examined yet: "+r.problem.message)
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
func (r *reporter) ready(own []v1alpha1.TargetPoolStatus) {
	switch {
	case r.problem != nil && (len(r.pools) == 0 || r.onlyJumpHost):
		r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, r.problem.reason, r.problem.message)
		return
	case r.onlyJumpHost:
		r.jumpHostReady()
		return
	case len(r.pools) == 0:
		r.Set(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPending, "the operator has not examined it yet")
		return
	}
	paused := 0
	for i, pool := range r.pools {
		switch {
		case pool.Paused:
			paused++
		case !*own[i].Ready:
			r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, shares.Shortfall(pool), explain(pool))
			return
		}
	}
	if paused == len(r.pools) {
		r.Set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPaused,
			"every pool that selects this target is paused; set spec.state of one to Active")
		return
	}
	r.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm, r.serving())
}

// serving returns the message of Ready while every pool serves.
func (r *reporter) serving() string {
	switch {
	case r.failure != nil:
		return "the existing connections keep serving; Reachable says why no more can be made"
	case r.growing:
		return "every pool serves, and more connections are being made"
	}
	return "every pool has its warm connections"
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
		r.progressServing()
	case driver.Reason(ready.Reason).Permanent():
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, ready.Reason, ready.Message)
	case r.failure != nil:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRetrying, "the operator tries again by itself")
	case ready.Reason == v1alpha1.ReasonWarming:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming, ready.Message)
	}
}

// progressServing adds Stalled while what serves could not be made again without a
// change, or Reconciling while changed credentials or more connections are on their way.
func (r *reporter) progressServing() {
	isRotating := func(pool poolset.PoolObservation) bool { return pool.Rotation.Pending }
	refused := refusedCredentials(r.pools)
	switch {
	case refused != nil:
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsInvalid,
			"the changed credentials do not work: "+refused.Message)
	case r.failure != nil && r.failure.Reason.Permanent():
		r.Set(v1alpha1.ConditionStalled, metav1.ConditionTrue, string(r.failure.Reason), r.failure.Error())
	case slices.ContainsFunc(r.pools, isRotating):
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRotating,
			"changed credentials are being tried before they replace the earlier ones")
	case r.growing && r.failure == nil:
		r.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming, r.serving())
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
