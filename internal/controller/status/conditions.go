package status

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// Conditions collects the conditions of one status.
type Conditions struct {
	// Now is the transition time of conditions whose status changes.
	Now time.Time
	// Generation is the metadata.generation that the conditions are about.
	Generation int64
	// Last are the conditions of the last status.
	Last []metav1.Condition
	// List are the conditions that have been collected.
	List []metav1.Condition
}

// Set adds a condition. It keeps the transition time of the last status while its
// own status stays the same.
func (c *Conditions) Set(kind string, status metav1.ConditionStatus, reason, message string) {
	condition := metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: c.Generation, LastTransitionTime: metav1.NewTime(c.Now).Rfc3339Copy(),
	}
	if old := meta.FindStatusCondition(c.Last, kind); old != nil && old.Status == status {
		condition.LastTransitionTime = old.LastTransitionTime
	}
	c.List = append(c.List, condition)
}

// Find returns a condition that has been collected, or nil.
func (c *Conditions) Find(kind string) *metav1.Condition {
	return meta.FindStatusCondition(c.List, kind)
}

// WasTrue reports whether the last status has the condition, true and about the
// present generation.
func (c *Conditions) WasTrue(kind string) bool {
	last := meta.FindStatusCondition(c.Last, kind)
	return last != nil && last.Status == metav1.ConditionTrue && last.ObservedGeneration == c.Generation
}

// Changed reports whether a condition appeared, disappeared, or changed its status,
// its reason or its generation. Another message alone does not count. Neither does
// another transient reason instead of a transient one, because a bad network shows
// as Timeout now and as Unreachable a moment later.
func Changed(before, after []metav1.Condition) bool {
	return len(before) != len(after) || slices.ContainsFunc(after, func(condition metav1.Condition) bool {
		old := meta.FindStatusCondition(before, condition.Type)
		return old == nil || changed(*old, condition)
	})
}

func changed(before, after metav1.Condition) bool {
	if before.Status != after.Status || before.ObservedGeneration != after.ObservedGeneration {
		return true
	}
	return before.Reason != after.Reason && !(driver.Reason(before.Reason).Transient() && driver.Reason(after.Reason).Transient())
}

// Share returns the share of the pool among those of a target; nil if it has none
// there. It belongs to the status of the target.
func Share(shares []v1alpha1.TargetPoolStatus, pool types.UID) *v1alpha1.TargetPoolStatus {
	for i := range shares {
		if uid := shares[i].UID; uid != nil && *uid == pool {
			return &shares[i]
		}
	}
	return nil
}

// Seconds returns the time as the API stores it, in whole seconds; nil for the zero
// time.
func Seconds(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	stored := metav1.NewTime(t).Rfc3339Copy()
	return &stored
}
