package shown

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
)

// Level is how much attention something needs.
type Level string

// The levels, the most urgent first.
const (
	// LevelFailing does not serve.
	LevelFailing Level = "failing"
	// LevelWarning serves, and will not once what it has now is gone.
	LevelWarning Level = "warning"
	// LevelWarming will serve without help.
	LevelWarming Level = "warming"
	// LevelUnknown is not known.
	LevelUnknown Level = "unknown"
	// LevelPaused does not serve because a user wants it so, or no pool wants it.
	LevelPaused Level = "paused"
	// LevelReady serves.
	LevelReady Level = "ready"
)

// Health is how something is: a level, a word, a sentence with the next step, and since when.
type Health struct {
	Level   Level  `json:"level"`
	Word    string `json:"word"`
	Message string `json:"message,omitempty"`
	Since   int64  `json:"since,omitempty"`
}

const notLookedAt = "The operator has not examined it yet."

// levels of reasons for which nothing has to be done. All others are failures.
var calm = map[string]Level{
	v1alpha1.ReasonWarming: LevelWarming, v1alpha1.ReasonPending: LevelWarming, v1alpha1.ReasonRotating: LevelWarming,
	v1alpha1.ReasonPaused: LevelPaused, v1alpha1.ReasonNotSelected: LevelPaused,
}

// healthOfTarget sums up a target for one of its pools. share is nil if the target
// does not know the pool, and then the target as a whole counts.
func healthOfTarget(target *v1alpha1.ConnectionTarget, share *v1alpha1.TargetPoolStatus) Health {
	conditions := target.Status.Conditions
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return Health{Level: LevelUnknown, Word: "Unknown", Message: notLookedAt}
	}
	isReady := ready.Status == metav1.ConditionTrue
	if share != nil && share.Ready != nil {
		isReady = *share.Ready
	}
	if !isReady {
		health := healthOfCondition(ready)
		if share != nil && share.Reason != nil && *share.Reason != ready.Reason {
			health = healthInPool(target, *share.Reason)
		}
		health.Level = levelOf(health.Word)
		return health
	}
	if lurking := lurkingFault(conditions); lurking != nil {
		health := healthOfCondition(lurking)
		health.Level = LevelWarning
		return health
	}
	return Health{Level: LevelReady, Word: "Ready", Since: millis(&ready.LastTransitionTime)}
}

// healthInPool is that of a target that fails for one pool for a reason of its own.
func healthInPool(target *v1alpha1.ConnectionTarget, reason string) Health {
	health := Health{Word: display.OneLine(reason)}
	if last := target.Status.LastError; last != nil && last.Reason == reason {
		health.Message = display.OneLine(last.Message)
	}
	return health
}

// lurkingFault returns the condition of something that serves, but that only a
// change can keep serving.
func lurkingFault(conditions []metav1.Condition) *metav1.Condition {
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionStalled); c != nil && c.Status == metav1.ConditionTrue {
		return c
	}
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionCredentialsReady); c != nil && c.Status == metav1.ConditionFalse {
		return c
	}
	return nil
}

func levelOf(reason string) Level {
	if level, ok := calm[reason]; ok {
		return level
	}
	return LevelFailing
}

func healthOfCondition(c *metav1.Condition) Health {
	return Health{Word: display.OneLine(c.Reason), Message: display.OneLine(c.Message), Since: millis(&c.LastTransitionTime)}
}

// failingHealth is what a pool says about a target that the caller may not read.
func failingHealth(t v1alpha1.FailingTarget) Health {
	return Health{Level: levelOf(t.Reason), Word: display.OneLine(t.Reason), Since: millis(t.Since)}
}

// healthByFigures is that of a target of which only connections can be read.
func healthByFigures(now figures) Health {
	if now.warm > 0 {
		return Health{Level: LevelReady, Word: "Connected"}
	}
	return Health{Level: LevelUnknown, Word: "Unknown"}
}

// healthOfPool sums up a pool. What the pool says of itself comes first, unless it
// is behind its targets: a pool whose targets need attention is not simply ready.
func healthOfPool(pool *v1alpha1.ConnectionPool, members []Member) Health {
	if pool == nil {
		return worst(members)
	}
	conditions := pool.Status.Conditions
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		return Health{Level: LevelUnknown, Word: "Unknown", Message: notLookedAt}
	case ready.Status != metav1.ConditionTrue:
		health := healthOfCondition(ready)
		health.Level = levelOf(health.Word)
		return health
	}
	for _, condition := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionDegraded} {
		if c := meta.FindStatusCondition(conditions, condition); c != nil && c.Status == metav1.ConditionTrue {
			health := healthOfCondition(c)
			health.Level = LevelWarning
			if condition == v1alpha1.ConditionDegraded {
				health.Word = v1alpha1.ReasonDegraded // as in the other commands
			}
			return health
		}
	}
	if health := worst(members); health.Level == LevelFailing || health.Level == LevelWarning {
		return Health{Level: LevelWarning, Word: v1alpha1.ReasonDegraded, Message: health.Message}
	}
	return Health{Level: LevelReady, Word: "Ready", Since: millis(&ready.LastTransitionTime)}
}

// urgency orders the levels.
var urgency = map[Level]int{LevelFailing: 5, LevelWarning: 4, LevelWarming: 3, LevelUnknown: 2, LevelPaused: 1, LevelReady: 0}

// worst sums up targets by the one that needs the most attention.
func worst(members []Member) Health {
	if len(members) == 0 {
		return Health{Level: LevelUnknown, Word: "Unknown"}
	}
	health, count := Health{Level: LevelReady, Word: "Ready"}, 0
	for i := range members {
		if m := &members[i]; urgency[m.Level] > urgency[health.Level] {
			health = Health{Level: m.Level, Word: m.Word}
		}
	}
	for i := range members {
		if members[i].Level == health.Level {
			count++
		}
	}
	if health.Level == LevelFailing || health.Level == LevelWarning {
		health.Message = fmt.Sprintf("%d of %s %s attention.", count, display.Count(len(members), "target", "targets"), needs(count))
	}
	return health
}

func needs(count int) string {
	if count == 1 {
		return "needs"
	}
	return "need"
}
