// Package fanout runs one command on many targets, and sends each result as soon as it is
// known.
//
//	problems := fanout.Validate(field.NewPath("spec"), spec)
//	names, err := fanout.Names(spec.Targets, members)
package fanout

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/natural"
)

// Validate returns what is wrong with the targets of a command, whose fields are below root.
func Validate(root *field.Path, spec *live.ExecSpec) (problems field.ErrorList) {
	targets, at := spec.Targets, root.Child("targets")
	if targets == nil {
		return nil
	}
	if spec.Target != "" {
		problems = append(problems, field.Forbidden(root.Child("target"), "set either target or targets"))
	}
	if spec.Subsystem != "" {
		problems = append(problems, field.Forbidden(root.Child("subsystem"), "a subsystem has no result; run a program on targets"))
	}
	problems = append(problems, validateChoice(at, targets)...)
	problems = append(problems, validateBound(at.Child("parallelism"), targets.Parallelism, live.MaxParallelism)...)
	return append(problems, validateBound(at.Child("outputBytes"), targets.OutputBytes, live.MaxExecOutputBytes)...)
}

func validateBound(at *field.Path, value, most int32) field.ErrorList {
	if value >= 0 && value <= most {
		return nil
	}
	return field.ErrorList{field.Invalid(at, value, fmt.Sprintf("must be between 1 and %d, or 0 for the default", most))}
}

func validateChoice(at *field.Path, targets *live.ExecTargets) field.ErrorList {
	const rule = "set exactly one of all, names and selector"
	set := 0
	for _, isSet := range []bool{targets.All, len(targets.Names) > 0, targets.Selector != nil} {
		if isSet {
			set++
		}
	}
	switch {
	case set == 0:
		return field.ErrorList{field.Required(at, rule)}
	case set > 1:
		return field.ErrorList{field.Forbidden(at, rule)}
	case targets.Selector != nil:
		return validateSelector(at.Child("selector"), targets.Selector)
	}
	return validateNames(at.Child("names"), targets.Names)
}

func validateSelector(at *field.Path, selector *metav1.LabelSelector) field.ErrorList {
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return field.ErrorList{field.Required(at, "an empty selector matches all targets; set all if that is meant")}
	}
	return validation.ValidateLabelSelector(selector, validation.LabelSelectorValidationOptions{}, at)
}

func validateNames(at *field.Path, names []string) (problems field.ErrorList) {
	if len(names) > live.MaxExecTargets {
		return field.ErrorList{field.TooMany(at, len(names), live.MaxExecTargets)}
	}
	seen := make(map[string]struct{}, len(names))
	for i, name := range names {
		if _, twice := seen[name]; twice {
			problems = append(problems, field.Duplicate(at.Index(i), driver.Sanitize(name)))
		}
		if name == "" {
			problems = append(problems, field.Required(at.Index(i), "the name of a target must not be empty"))
		}
		seen[name] = struct{}{}
	}
	return problems
}

// Names returns the names of the targets that are chosen, in natural order. Of a pool with
// these members, it may lack those that the request names.
func Names(targets *live.ExecTargets, members []v1alpha1.ConnectionTarget) (names []string, err error) {
	names = []string{} // an empty list in JSON, too
	chosen := labels.Everything()
	switch {
	case len(targets.Names) > 0:
		names = slices.Clone(targets.Names)
		slices.SortFunc(names, natural.Compare)
		return names, nil
	case targets.Selector != nil:
		if chosen, err = metav1.LabelSelectorAsSelector(targets.Selector); err != nil {
			return nil, err
		}
	}
	for i := range members {
		if chosen.Matches(labels.Set(members[i].Labels)) {
			names = append(names, members[i].Name)
		}
	}
	slices.SortFunc(names, natural.Compare)
	return names, nil
}
