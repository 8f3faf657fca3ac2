// Package output is how commands show lists: as a table, as JSON or YAML, by names,
// JSONPaths or columns of the user's choice, sorted, and again when something changes.
//
// Flags are what kubectl get has: -o, -w, --no-headers, --sort-by, and -l for the
// command to pass on if the items have labels. A List says what the items are and how they are read:
//
//	flags := output.Register(f, command)
//	...
//	return (&output.List[live.Connection]{
//		Flags: flags, Kind: "connections", Prefix: "connection/",
//		Columns: columns.Connections, Read: o.read, Wrap: wrap, Key: key,
//	}).Show(ctx)
//
// Trade-off: a watch reads the whole list again and again and compares, because the
// live API has no watch. So it sees no change that is undone between two looks.
package output

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/columns"
)

// Flags of a command that lists.
type Flags struct {
	// Selector is -l, which the command passes on to the API.
	Selector string
	// IsWatch is --watch.
	IsWatch bool

	noHeaders bool
	sortBy    string
	factory   *plugin.Factory
}

// Register adds the flags of a list to a command, -A among them. labeled says whose
// labels -l is about, such as "pools"; "" if there are none.
func Register(f *plugin.Factory, command *cobra.Command, labeled string) *Flags {
	flags := &Flags{factory: f}
	plugin.RegisterAllNamespaces(f, command)
	f.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name, plugin.Wide, plugin.JSONPath, plugin.CustomColumns)
	set := command.Flags()
	if labeled != "" {
		set.StringVarP(&flags.Selector, "selector", "l", "", "Only those of "+labeled+" with these labels, such as app=web,tier!=test")
	}
	set.BoolVarP(&flags.IsWatch, "watch", "w", false, "After the list, print what has changed, until Ctrl-C")
	set.BoolVar(&flags.noHeaders, "no-headers", false, "Print the rows of the table and nothing else")
	set.StringVar(&flags.sortBy, "sort-by", "", "JSONPath of the field to sort by, such as .metadata.name; -o json shows the fields")
	return flags
}

// HasTableOnly reports whether the table is to have neither a head nor text below it.
func (f *Flags) HasTableOnly() bool { return f.noHeaders }

// List is what a command shows.
type List[T any] struct {
	*Flags

	// Kind names the items in a sentence, such as "connections". Prefix stands before
	// their names with -o name.
	Kind, Prefix string
	// Of says in an empty list whose items were asked for, such as " of pool web".
	Of string

	Columns []columns.Column[*T]
	// Colors of cells, by the title of the column.
	Colors map[string]func(cell string) string
	// Read reads the items, in their usual order.
	Read func(context.Context) ([]T, error)
	// Wrap returns the object that holds items, for programs.
	Wrap func([]T) any
	// Key returns the name of an item, and its namespace.
	Key func(*T) types.NamespacedName
	// Gone marks an item that is no longer there, to be shown once more. Nil if that
	// is not worth a line.
	Gone func(*T)
	// Single shows the one item that the user has named. Nil for a list.
	Single func(*T)
	// Below prints what follows the table. It may be nil.
	Below func([]T)
}

// Show prints the list and, with --watch, what changes, until ctx ends.
func (l *List[T]) Show(ctx context.Context) error {
	shown, err := l.printer()
	if err != nil {
		return err
	}
	items, err := l.Read(ctx)
	if err != nil {
		return err
	}
	if err := l.sort(items); err != nil {
		return err
	}
	if err := shown.whole(items); err != nil {
		return err
	}
	if !l.IsWatch {
		return nil
	}
	return l.watch(ctx, shown, items)
}

// sayEmpty says on standard error that there are no items.
func (l *List[T]) sayEmpty() {
	f := l.factory
	if f.AllNamespaces {
		fmt.Fprintf(f.ErrOut, "No %s%s in any namespace.\n", l.Kind, l.Of)
		return
	}
	fmt.Fprintf(f.ErrOut, "No %s%s in namespace %s.\n", l.Kind, l.Of, f.Namespace)
}

// OfPool is Of for the items of a pool, unless that is "".
func OfPool(pool string) string {
	if pool == "" {
		return ""
	}
	return " of pool " + pool
}

// table returns an empty table of the columns.
func (l *List[T]) table() *display.Table {
	f := l.factory
	t := &display.Table{NoHeaders: l.noHeaders, Colors: l.Colors, Paint: display.PaintFor(f.Out)}
	t.Columns = append(t.Columns, "NAMESPACE")
	t.ShowOnlyIf(f.AllNamespaces, "NAMESPACE")
	for _, column := range l.Columns {
		t.Columns = append(t.Columns, column.Title())
		t.ShowOnlyIf(!column.Wide || f.Output.Form == plugin.Wide, column.Title())
	}
	return t
}

// row returns the cells of an item.
func (l *List[T]) row(item *T) []string {
	cells := []string{l.Key(item).Namespace}
	for _, column := range l.Columns {
		cells = append(cells, fmt.Sprint(column.Cell(item, l.factory.Now())))
	}
	return cells
}

// lasting returns what a row says, but for what changes while nothing happens.
func (l *List[T]) lasting(item *T) string {
	var cells []any
	for _, column := range l.Columns {
		isShown := !column.Wide || l.factory.Output.Form == plugin.Wide
		if isShown && !column.Fleeting {
			cells = append(cells, column.Cell(item, l.factory.Now()))
		}
	}
	return fmt.Sprintf("%q", cells)
}
