package v1alpha1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Selects reports whether the target is one of the pool's now: Matches is true, and neither is being deleted.
func (p *ConnectionPool) Selects(target *ConnectionTarget) bool {
	return p.DeletionTimestamp.IsZero() && target.DeletionTimestamp.IsZero() && p.Matches(target)
}

// Selector returns Selects as a function, for callers that ask about many targets:
// targetSelector is parsed only once. The error says that targetSelector is invalid.
// The function then selects no target.
func (p *ConnectionPool) Selector() (func(*ConnectionTarget) bool, error) {
	matches, err := p.matcher()
	return func(target *ConnectionTarget) bool {
		return p.DeletionTimestamp.IsZero() && target.DeletionTimestamp.IsZero() && matches(target)
	}, err
}

// Matches reports whether the pool is declared for the target, even while one of them
// is being deleted: both are in the same namespace, and the target has the name in
// targetRef or the labels that targetSelector asks for. With an invalid
// targetSelector it is false for all targets.
func (p *ConnectionPool) Matches(target *ConnectionTarget) bool {
	asks := p.Spec.TargetSelector
	if p.Spec.TargetRef == nil && asks != nil && len(asks.MatchExpressions) == 0 {
		return target.Namespace == p.Namespace && hasLabels(target, asks.MatchLabels)
	}
	matches, _ := p.matcher()
	return matches(target)
}

// hasLabels is what a selector of matchLabels alone asks, without parsing it: each change of
// a target is a question to every pool of its namespace. No target has labels that are invalid.
func hasLabels(target *ConnectionTarget, wanted map[string]string) bool {
	for name, value := range wanted {
		if got, has := target.Labels[name]; !has || got != value {
			return false
		}
	}
	return true
}

// matcher returns Matches as a function, and why targetSelector is invalid.
func (p *ConnectionPool) matcher() (func(*ConnectionTarget) bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.TargetSelector)
	if err != nil {
		return func(*ConnectionTarget) bool { return false }, fmt.Errorf("parse targetSelector: %w", err)
	}
	return func(target *ConnectionTarget) bool {
		if ref := p.Spec.TargetRef; ref != nil {
			return target.Namespace == p.Namespace && target.Name == ref.Name
		}
		return target.Namespace == p.Namespace && selector.Matches(labels.Set(target.Labels))
	}, nil
}

// WithoutTargets says why a pool selects no target, as the reason and the message of a condition.
func (p *ConnectionPool) WithoutTargets() (reason, message string) {
	if ref := p.Spec.TargetRef; ref != nil {
		return ReasonTargetNotFound, fmt.Sprintf(
			"the ConnectionTarget %s does not exist in namespace %s; create it or correct targetRef", ref.Name, p.Namespace)
	}
	if _, err := p.matcher(); err != nil {
		return ReasonSelectorInvalid, "targetSelector is not a valid label selector; correct it"
	}
	return ReasonNoTargets, "no ConnectionTarget of namespace " + p.Namespace + " has labels that match targetSelector " +
		metav1.FormatLabelSelector(p.Spec.TargetSelector) + "; label one or correct the selector"
}
