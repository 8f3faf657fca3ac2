// Package list shows, selects and orders objects of the live API that are made for
// each request, since there is no storage that would do so.
//
//	wanted, err := list.Select(options, selectable)
//	...
//	if wanted.Matches(&session) {
//
// Embed a Table to implement rest.TableConvertor.
//
// Trade-offs: every list looks at all objects. They are in memory, and few.
package list

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Column is one column of a table.
type Column[T any] struct {
	metav1.TableColumnDefinition

	Cell func(object T, now time.Time) any
}

// Text returns a column of words. The column called Name has the names of objects.
func Text[T any](name string, priority int32, description string, cell func(T, time.Time) any) Column[T] {
	format := ""
	if name == "Name" {
		format = "name"
	}
	return Column[T]{metav1.TableColumnDefinition{
		Name: name, Type: "string", Format: format, Description: description, Priority: priority,
	}, cell}
}

// Number returns a column of integers.
func Number[T any](name, description string, cell func(T, time.Time) any) Column[T] {
	return Column[T]{metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}, cell}
}

// Table shows objects of one type, or lists of them, to people.
type Table[T runtime.Object] []Column[T]

// ConvertToTable implements rest.TableConvertor.
func (t Table[T]) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	now, table := time.Now(), &metav1.Table{}
	addRow := func(object runtime.Object) error {
		item, ok := object.(T)
		if !ok {
			return fmt.Errorf("there is no table of a %T", object)
		}
		table.Rows = append(table.Rows, t.row(item, now))
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
		for _, column := range t {
			table.ColumnDefinitions = append(table.ColumnDefinitions, column.TableColumnDefinition)
		}
	}
	return table, nil
}

func (t Table[T]) row(object T, now time.Time) metav1.TableRow {
	row := metav1.TableRow{Object: runtime.RawExtension{Object: object}}
	for _, column := range t {
		row.Cells = append(row.Cells, column.Cell(object, now))
	}
	return row
}
