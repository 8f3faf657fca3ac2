// Package list is what resources have in common whose objects are made for each request:
// how they are listed, selected, ordered and shown. Embed a Resource.
//
//	wants, err := resource.Select(options)
//	...
//	if wants(&session) {
//
// Trade-offs: every list looks at all objects. They are in memory, and few.
package list

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/connpool/connpool/internal/columns"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// Object is an object of the live API.
type Object interface {
	runtime.Object
	metav1.Object
}

// Resource is a resource of namespaced objects.
type Resource[T Object] struct {
	Singular, Plural string
	Short            []string
	// Object and List are empty ones.
	Object  T
	List    runtime.Object
	Columns []columns.Column[T]
	// Fields are those that selectors may name.
	Fields []Field[T]
}

var (
	_ rest.ShortNamesProvider = (*Resource[Object])(nil)
	_ rest.CategoriesProvider = (*Resource[Object])(nil)
	_ rest.TableConvertor     = (*Resource[Object])(nil)
)

// New implements rest.Storage.
func (r *Resource[T]) New() runtime.Object { return r.Object.DeepCopyObject() }

// NewList implements rest.Lister.
func (r *Resource[T]) NewList() runtime.Object { return r.List.DeepCopyObject() }

// Destroy implements rest.Storage.
func (*Resource[T]) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (*Resource[T]) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (r *Resource[T]) GetSingularName() string { return r.Singular }

// ShortNames implements rest.ShortNamesProvider.
func (r *Resource[T]) ShortNames() []string { return r.Short }

// Categories implements rest.CategoriesProvider.
func (*Resource[T]) Categories() []string { return []string{"connpool"} }

// Field is a field that selectors may name.
type Field[T any] struct {
	Name  string
	Value func(T) string
}

// Select returns a function that reports whether a list with these options wants an
// object. It refuses fields that are not selectable.
func (r *Resource[T]) Select(options *metainternalversion.ListOptions) (wants func(T) bool, err error) {
	byLabels, byFields := labels.Everything(), fields.Requirements(nil)
	if options != nil && options.LabelSelector != nil {
		byLabels = options.LabelSelector
	}
	if options != nil && options.FieldSelector != nil {
		byFields = options.FieldSelector.Requirements()
	}
	var readers []func(T) string
	for _, requirement := range byFields {
		at := slices.IndexFunc(r.Fields, func(f Field[T]) bool { return f.Name == requirement.Field })
		if at < 0 {
			return nil, r.unknown(requirement.Field)
		}
		readers = append(readers, r.Fields[at].Value)
	}
	return func(object T) bool {
		for i, requirement := range byFields {
			has := readers[i](object) == requirement.Value
			if has == (requirement.Operator == selection.NotEquals) {
				return false
			}
		}
		return byLabels.Matches(labels.Set(object.GetLabels()))
	}, nil
}

func (r *Resource[T]) unknown(name string) error {
	var known []string
	for _, field := range r.Fields {
		known = append(known, field.Name)
	}
	return refusal.New(refusal.BadRequest, fmt.Sprintf(
		"the field selector names %q, which %s are not selected by; choose one of %s",
		driver.Sanitize(name), r.Plural, strings.Join(known, ", ")))
}

// Compare orders objects by namespace and name, which stay while a list is paged through.
func Compare(a, b metav1.Object) int {
	return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// none stands in a table for an absent value, as kubectl writes it.
const none = "<none>"

func definitionOf[T any](column columns.Column[T]) metav1.TableColumnDefinition {
	definition := metav1.TableColumnDefinition{Name: column.Name, Type: "string", Description: column.Description}
	if column.Name == "Name" {
		definition.Format = "name"
	}
	if column.Integer {
		definition.Type = "integer"
	}
	if column.Wide {
		definition.Priority = 1
	}
	return definition
}

// ConvertToTable implements rest.TableConvertor for one object, or a list of them.
func (r *Resource[T]) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	now, table := time.Now(), &metav1.Table{}
	addRow := func(object runtime.Object) error {
		item, ok := object.(T)
		if !ok {
			return fmt.Errorf("there is no table of a %T", object)
		}
		row := metav1.TableRow{Object: runtime.RawExtension{Object: item}, Cells: make([]any, 0, len(r.Columns))}
		for _, column := range r.Columns {
			row.Cells = append(row.Cells, cellOf(column.Cell(item, now)))
		}
		table.Rows = append(table.Rows, row)
		return nil
	}
	convert := addRow
	if list, err := meta.ListAccessor(object); err == nil {
		table.ListMeta = metav1.ListMeta{
			ResourceVersion: list.GetResourceVersion(), Continue: list.GetContinue(), RemainingItemCount: list.GetRemainingItemCount(),
		}
		convert = func(object runtime.Object) error { return meta.EachListItem(object, addRow) }
	}
	if err := convert(object); err != nil {
		return nil, err
	}
	if wanted, ok := options.(*metav1.TableOptions); !ok || !wanted.NoHeaders {
		for _, column := range r.Columns {
			table.ColumnDefinitions = append(table.ColumnDefinitions, definitionOf(column))
		}
	}
	return table, nil
}

func cellOf(value any) any {
	if value == "" {
		return none
	}
	return value
}
