package list

import (
	"cmp"
	"fmt"
	"strings"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// Field is a field that selectors may name.
type Field[T any] struct {
	Name  string
	Value func(T) string
}

// Selectable says by which fields objects can be selected.
type Selectable[T any] struct {
	// Plural is what messages call the objects.
	Plural string
	Fields []Field[T]
}

// Selection says which objects a list wants.
type Selection[T metav1.Object] struct {
	labels     labels.Selector
	fields     fields.Requirements
	selectable Selectable[T]
}

// Select returns what the options of a list select. It refuses fields that are not
// selectable.
func Select[T metav1.Object](options *metainternalversion.ListOptions, selectable Selectable[T]) (Selection[T], error) {
	wanted := Selection[T]{labels: labels.Everything(), selectable: selectable}
	if options == nil {
		return wanted, nil
	}
	if options.LabelSelector != nil {
		wanted.labels = options.LabelSelector
	}
	if options.FieldSelector != nil {
		wanted.fields = options.FieldSelector.Requirements()
	}
	for _, requirement := range wanted.fields {
		if selectable.value(requirement.Field) == nil {
			return wanted, selectable.unknown(requirement.Field)
		}
	}
	return wanted, nil
}

// value returns what reads a field; nil when there is no such field.
func (s Selectable[T]) value(name string) func(T) string {
	for _, field := range s.Fields {
		if field.Name == name {
			return field.Value
		}
	}
	return nil
}

func (s Selectable[T]) unknown(name string) error {
	known := make([]string, 0, len(s.Fields))
	for _, field := range s.Fields {
		known = append(known, field.Name)
	}
	return refusal.New(refusal.BadRequest, fmt.Sprintf(
		"the field selector names %q, which %s are not selected by; choose one of %s",
		driver.Sanitize(name), s.Plural, strings.Join(known, ", ")))
}

// Matches reports whether the list wants an object.
func (s Selection[T]) Matches(object T) bool {
	for _, requirement := range s.fields {
		has := s.selectable.value(requirement.Field)(object) == requirement.Value
		if has == (requirement.Operator == "!=") {
			return false
		}
	}
	return s.labels.Matches(labels.Set(object.GetLabels()))
}

// Compare orders objects by namespace and name, which do not change while a list is
// paged through.
func Compare(a, b *metav1.ObjectMeta) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
