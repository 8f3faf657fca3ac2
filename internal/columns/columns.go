// Package columns is what a table shows of connections and sessions. The live API
// answers kubectl with these columns, and the plugin prints the same ones, in the
// same order and units.
//
//	for _, column := range columns.Connections {
//		cells = append(cells, column.Cell(&connection, now))
//	}
//
// Trade-off: a cell is text or an integer, and empty text stands for an absent
// value, which each program shows in its own way.
package columns

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Column is one column of a table of T.
type Column[T any] struct {
	// Name as kubectl expects it from a server, such as In-Use. A table shows it in
	// capital letters.
	Name, Description string
	// Integer says that the cells are int64.
	Integer bool
	// Wide columns are shown with -o wide only.
	Wide bool
	// Fleeting columns change while nothing happens, such as an age.
	Fleeting bool
	// Cell returns a string or an int64. An empty string is an absent value.
	Cell func(object T, now time.Time) any
}

// Title returns the name as the head of a table shows it.
func (c Column[T]) Title() string { return strings.ToUpper(c.Name) }

// Text returns a column of words.
func Text[T any](name, description string, cell func(T) string) Column[T] {
	return Column[T]{Name: name, Description: description, Cell: func(object T, _ time.Time) any { return cell(object) }}
}

// Number returns a column of integers.
func Number[T any](name, description string, cell func(T) int64) Column[T] {
	return Column[T]{
		Name: name, Description: description, Integer: true, Cell: func(object T, _ time.Time) any { return cell(object) },
	}
}

// Ago returns a column that says how long ago something happened.
func Ago[T any](name, description string, at func(T) *metav1.Time) Column[T] {
	return Column[T]{Name: name, Description: description, Fleeting: true, Cell: func(object T, now time.Time) any {
		then := at(object)
		if then.IsZero() {
			return ""
		}
		return duration.HumanDuration(max(0, now.Sub(then.Time)))
	}}
}

// Wide returns columns that are shown with -o wide only.
func Wide[T any](columns ...Column[T]) []Column[T] {
	for i := range columns {
		columns[i].Wide = true
	}
	return columns
}

// Micros formats a duration that an API gives in microseconds.
func Micros(n int64) string {
	d := time.Duration(n) * time.Microsecond
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", n)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(n)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// latency formats a duration in microseconds of which 0 means unknown.
func latency(n int64) string {
	if n == 0 {
		return ""
	}
	return Micros(n)
}
