package status

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
)

// Words for the health of a pool or target, unless a condition has a better one.
const (
	healthReady    = "Ready"
	healthDegraded = "Degraded"
	healthUnknown  = "Unknown"
)

// Where figures come from.
const (
	figuresLive   = "LiveAPI"
	figuresStored = "StoredStatus"
)

type poolReport struct {
	// Metadata is where templates for kubectl look for the name.
	Metadata  metadata `json:"metadata"`
	Name      string   `json:"name"`
	Namespace string   `json:"namespace"`
	Type      string   `json:"type,omitempty"`
	// Health is Ready, Degraded, or the reason why the pool is not ready, and after
	// commas what else is wrong.
	Health string `json:"health"`
	// Ready says whether the pool serves. Status is what kubectl get shows: the reason
	// of that, and after commas what else is wrong.
	Ready   bool         `json:"ready"`
	Status  string       `json:"status"`
	Message string       `json:"message,omitempty"`
	Since   *metav1.Time `json:"since,omitempty"`

	Targets v1alpha1.TargetCounts `json:"targets,omitzero"`
	// FiguresFrom is LiveAPI for figures of this moment, and StoredStatus for those that
	// the operator wrote last.
	FiguresFrom string                        `json:"figuresFrom"`
	Connections v1alpha1.PoolConnectionCounts `json:"connections,omitzero"`
	UseCount    int64                         `json:"useCount"`
	Oldest      *metav1.Time                  `json:"oldestConnectionTime,omitempty"`
	LastUsed    *metav1.Time                  `json:"lastUsedTime,omitempty"`

	// Troubles are what is wrong with the pool itself while it may serve.
	Troubles []trouble `json:"troubles,omitempty"`
	// Failing are the failing targets, the longest failing first.
	Failing []trouble `json:"failingTargets,omitempty"`
	// Members are the pool's targets.
	Members []targetReport `json:"members,omitempty"`
}

type metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"`
	Created   *metav1.Time      `json:"creationTimestamp,omitempty"`
}

// trouble is something that is wrong with a pool, or with a target of it.
type trouble struct {
	// Name of the target; empty if it is the pool itself.
	Name   string       `json:"name,omitempty"`
	Reason string       `json:"reason"`
	Since  *metav1.Time `json:"since,omitempty"`
	// Serving says whether the target serves nevertheless.
	Serving bool `json:"serving,omitempty"`
	// Message says what happened and the next step.
	Message string `json:"message,omitempty"`

	// stuck says that only a person can help the target.
	stuck bool
}

type targetReport struct {
	Name string `json:"name"`
	// Namespace of a target that no pool selects. Others have that of their pool.
	Namespace     string                    `json:"namespace,omitempty"`
	Type          string                    `json:"type,omitempty"`
	Endpoint      string                    `json:"endpoint,omitempty"`
	Health        string                    `json:"health"`
	Ready         bool                      `json:"ready"`
	Status        string                    `json:"status"`
	Since         *metav1.Time              `json:"since,omitempty"`
	Message       string                    `json:"message,omitempty"`
	ServerVersion string                    `json:"serverVersion,omitempty"`
	Replica       string                    `json:"replica,omitempty"`
	Connections   v1alpha1.ConnectionCounts `json:"connections,omitzero"`
	UseCount      int64                     `json:"useCount"`
	Oldest        *metav1.Time              `json:"oldestConnectionTime,omitempty"`
	LastUsed      *metav1.Time              `json:"lastUsedTime,omitempty"`
	Created       *metav1.Time              `json:"creationTimestamp,omitempty"`
	Conditions    []metav1.Condition        `json:"conditions,omitempty"`

	troubles []trouble
	// failsPool says that the target lacks the connections that the pool wants.
	failsPool bool
}

// isFine reports whether there is nothing to say about a target.
func (m *targetReport) isFine() bool { return m.Ready && len(m.troubles) == 0 }

// isFine reports whether there is nothing to say about a pool.
func (r *poolReport) isFine() bool {
	return r.Health == healthReady && len(r.Failing) == 0
}

// unlisted returns how many targets fail besides those in Failing, if the targets
// themselves cannot be read.
func (r *poolReport) unlisted() int {
	if len(r.Members) > 0 {
		return 0
	}
	return max(0, int(ptr.Deref(r.Targets.Failing, 0))-len(r.Failing))
}

// reportOf reports a pool with its targets. Without counts its figures are stored ones.
func reportOf(pool *v1alpha1.ConnectionPool, members []v1alpha1.ConnectionTarget, counts cluster.Counts) poolReport {
	status := pool.Status
	report := poolReport{
		Name: pool.Name, Namespace: pool.Namespace, Type: string(ptr.Deref(status.Type, "")),
		Metadata: metadata{pool.Name, pool.Namespace, pool.Labels, &pool.CreationTimestamp},
		Targets:  status.Targets, FiguresFrom: figuresStored, Connections: status.Connections,
		UseCount: ptr.Deref(status.UseCount, 0), Oldest: status.OldestConnectionTime, LastUsed: status.LastUsedTime,
	}
	for i := range members {
		report.Members = append(report.Members, reportOfTarget(&members[i], pool.Name))
	}
	if counts != nil {
		report.take(counts[types.NamespacedName{Namespace: pool.Namespace, Name: pool.Name}])
	}
	words := wordsOf(status.Conditions, v1alpha1.ConditionStalled)
	report.Message, report.Since, report.Ready, report.Troubles = words.message, words.since, words.ready, words.troubles
	report.Failing = report.failing(status.FailingTargets)
	others := report.otherReasons(status.Conditions)
	report.Health, report.Status = joined(words.health, others), joined(words.reason, others)
	return report
}

// take takes the figures of this moment. Of the two counts of uses the higher one is
// newer, and of two times the later one: the live ones begin anew with each replica of
// the operator.
func (r *poolReport) take(counts []livev1alpha1.ConnectionCounts) {
	sum, byTarget := cluster.SumOf(counts), make(map[string]livev1alpha1.ConnectionCounts, len(counts))
	for _, c := range counts {
		byTarget[c.Target] = c
	}
	for i := range r.Members {
		r.Members[i].take(byTarget[r.Members[i].Name])
	}
	r.FiguresFrom = figuresLive
	r.Connections.Desired, r.Connections.Warm, r.Connections.InUse = &sum.Desired, &sum.Warm, &sum.InUse
	r.Connections.Dialing, r.Connections.Draining = &sum.Dialing, &sum.Draining
	r.UseCount, r.Oldest, r.LastUsed = max(r.UseCount, sum.UseCount), sum.OldestConnectionTime, cluster.Later(sum.LastUsedTime, r.LastUsed)
}

func (m *targetReport) take(own livev1alpha1.ConnectionCounts) {
	m.Connections = v1alpha1.ConnectionCounts{Warm: &own.Warm, InUse: &own.InUse, Dialing: &own.Dialing, Draining: &own.Draining}
	m.UseCount, m.Oldest, m.LastUsed = max(m.UseCount, own.UseCount), own.OldestConnectionTime, cluster.Later(own.LastUsedTime, m.LastUsed)
}

// reportOfTarget reports a target with its stored figures in one pool.
func reportOfTarget(target *v1alpha1.ConnectionTarget, pool string) targetReport {
	status := target.Status
	words := wordsOf(status.Conditions, v1alpha1.ConditionStalled, v1alpha1.ConditionCredentialsReady, v1alpha1.ConditionReachable)
	reasons := reasonsOf(words.troubles)
	report := targetReport{
		Name: target.Name, Type: string(ptr.Deref(status.Type, "")), Endpoint: ptr.Deref(status.Endpoint, ""),
		ServerVersion: ptr.Deref(status.ServerVersion, ""), Replica: ptr.Deref(status.Replica, ""), Created: &target.CreationTimestamp,
		Health: joined(words.health, reasons), Status: joined(words.reason, reasons), Ready: words.ready,
		Message: words.message, Since: words.since, Conditions: status.Conditions, troubles: words.troubles,
	}
	for i := range status.Pools {
		if p := &status.Pools[i]; p.Name == pool {
			report.Connections, report.UseCount, report.LastUsed = p.Connections, ptr.Deref(p.UseCount, 0), p.LastUsedTime
			report.Oldest, report.failsPool = p.OldestConnectionTime, !ptr.Deref(p.Ready, true)
		}
	}
	return report
}

// failing returns the targets that fail: those that the status of the pool names, which
// are at most ten, and those whose own conditions say so.
func (r *poolReport) failing(named []v1alpha1.FailingTarget) (all []trouble) {
	known := make(map[string]*targetReport, len(r.Members))
	for i := range r.Members {
		known[r.Members[i].Name] = &r.Members[i]
	}
	isNamed := map[string]bool{}
	for _, f := range named {
		isNamed[f.Name] = true
		t := trouble{Name: f.Name, Reason: f.Reason, Since: f.Since}
		if m := known[f.Name]; m != nil {
			t.Message, t.Serving, t.stuck = m.messageOf(f.Reason), m.Ready, m.isStuck()
		}
		all = append(all, t)
	}
	for i := range r.Members {
		if m := &r.Members[i]; !isNamed[m.Name] && m.fails() {
			all = append(all, m.trouble())
		}
	}
	slices.SortStableFunc(all, func(a, b trouble) int { return timeOf(a.Since).Compare(timeOf(b.Since)) })
	return all
}

// otherReasons returns what is wrong besides Ready: the reasons of the pool itself and of
// failing targets that only a person can help or, without such ones, of Degraded.
func (r *poolReport) otherReasons(conditions []metav1.Condition) (reasons []string) {
	ofTargets := reasonsOf(slices.DeleteFunc(slices.Clone(r.Failing), func(t trouble) bool { return !t.stuck }))
	slices.Sort(ofTargets)
	ofTargets = slices.Compact(ofTargets)
	reasons = append(reasonsOf(r.Troubles), ofTargets[:min(len(ofTargets), maxReasons)]...)
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	degraded := meta.FindStatusCondition(conditions, v1alpha1.ConditionDegraded)
	if len(reasons) == 0 && isFailure(degraded) && ready != nil && ready.Reason != v1alpha1.ReasonDegraded {
		reasons = []string{degraded.Reason}
	}
	return reasons
}

// maxReasons bounds the reasons of targets in the status of a pool.
const maxReasons = 3

// reasonsOf returns the reasons of troubles, of which several may have the same.
func reasonsOf(troubles []trouble) []string {
	reasons := make([]string, 0, len(troubles))
	for _, t := range troubles {
		reasons = append(reasons, t.Reason)
	}
	return reasons
}

// joined puts other reasons behind a word, each once.
func joined(word string, others []string) string {
	words := []string{word}
	for _, reason := range others {
		if !slices.Contains(words, reason) {
			words = append(words, reason)
		}
	}
	return strings.Join(words, ",")
}

// fails reports whether a target has something to say about a failure of its own, also
// while it serves.
func (m *targetReport) fails() bool {
	return len(m.troubles) > 0 || m.failsPool && !m.Ready && !v1alpha1.IsExpectedReason(m.reason())
}

// reason returns the reason of Ready.
func (m *targetReport) reason() string {
	reason, _, _ := strings.Cut(m.Status, ",")
	return reason
}

// isStuck reports whether only a person can help the target.
func (m *targetReport) isStuck() bool {
	return slices.ContainsFunc(m.Conditions, func(c metav1.Condition) bool {
		return isFailure(&c) && (c.Type == v1alpha1.ConditionStalled || c.Type == v1alpha1.ConditionCredentialsReady)
	})
}

// trouble returns what is wrong with a target that fails.
func (m *targetReport) trouble() trouble {
	t := trouble{Reason: m.reason(), Since: m.Since, Message: m.Message}
	if len(m.troubles) > 0 && (m.Ready || v1alpha1.IsExpectedReason(m.reason())) {
		t = m.troubles[0]
	}
	t.Name, t.Serving, t.stuck = m.Name, m.Ready, m.isStuck()
	return t
}

// messageOf returns the message of a target's condition with a reason.
func (m *targetReport) messageOf(reason string) string {
	for _, t := range m.troubles {
		if t.Reason == reason {
			return t.Message
		}
	}
	return m.Message
}

// timeOf returns the zero time for none.
func timeOf(at *metav1.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.Time
}

// words sum conditions up.
type words struct {
	// health is Ready or Degraded, or the reason why an object is not ready; reason is
	// always the reason.
	health, reason string
	ready          bool
	message        string
	since          *metav1.Time
	// troubles are what is wrong besides.
	troubles []trouble
}

// wordsOf sums conditions up. Conditions of the given types are troubles if they say
// that something is wrong, and not the same as Ready.
func wordsOf(conditions []metav1.Condition, troubling ...string) words {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return words{health: healthUnknown, reason: healthUnknown, message: "The operator has not examined it yet."}
	}
	w := words{
		health: ready.Reason, reason: ready.Reason, ready: ready.Status == metav1.ConditionTrue,
		message: ready.Message, since: &ready.LastTransitionTime,
	}
	degraded := meta.FindStatusCondition(conditions, v1alpha1.ConditionDegraded)
	switch {
	case w.ready && isFailure(degraded):
		w.health, w.message, w.since = healthDegraded, degraded.Message, &degraded.LastTransitionTime
	case w.ready:
		w.health = healthReady
	}
	for _, kind := range troubling {
		c := meta.FindStatusCondition(conditions, kind)
		if isFailure(c) && c.Reason != ready.Reason {
			w.troubles = append(w.troubles, trouble{Reason: c.Reason, Since: &c.LastTransitionTime, Message: c.Message})
		}
	}
	return w
}

// isFailure reports whether a condition says that something is wrong.
func isFailure(c *metav1.Condition) bool {
	switch {
	case c == nil || v1alpha1.IsExpectedReason(c.Reason):
		return false
	case c.Type == v1alpha1.ConditionStalled || c.Type == v1alpha1.ConditionDegraded:
		return c.Status == metav1.ConditionTrue
	default:
		return c.Status == metav1.ConditionFalse
	}
}
