package v1alpha1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Selects reports whether the target is one of the pool's: both are in the same
// namespace, neither is being deleted, and the target has the name in targetRef or
// the labels that targetSelector asks for. A pool with an invalid targetSelector
// selects no target.
func (p *ConnectionPool) Selects(target *ConnectionTarget) bool {
	selects, _ := p.Selector()
	return selects(target)
}

// Selector returns Selects as a function, for callers that ask about many targets:
// targetSelector is parsed only once. The error says that targetSelector is invalid.
// The function then selects no target.
func (p *ConnectionPool) Selector() (func(*ConnectionTarget) bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.TargetSelector)
	if err != nil {
		none := func(*ConnectionTarget) bool { return false }
		return none, fmt.Errorf("parse targetSelector: %w", err)
	}
	return func(target *ConnectionTarget) bool {
		if target.Namespace != p.Namespace || !p.DeletionTimestamp.IsZero() || !target.DeletionTimestamp.IsZero() {
			return false
		}
		if ref := p.Spec.TargetRef; ref != nil {
			return ref.Name == target.Name
		}
		return selector.Matches(labels.Set(target.Labels))
	}, nil
}
