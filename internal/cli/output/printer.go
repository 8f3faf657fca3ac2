package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	jsonvalues "k8s.io/apimachinery/pkg/util/json"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// printer prints items in one form.
type printer[T any] struct {
	// whole prints the list, and changed some of its items later on.
	whole, changed func([]T) error
	// state returns what must change before an item is printed again.
	state func(*T) string
}

func (l *List[T]) printer() (printer[T], error) {
	flag := &l.factory.Output
	form, template := flag.Template()
	switch {
	case flag.IsMachine():
		return l.forEach(func(object any) error { return flag.Encode(l.factory.Out, object) }), nil
	case form == plugin.JSONPath:
		return l.byPath(template)
	case form == plugin.CustomColumns:
		return l.byColumns(template)
	case form == plugin.Name:
		return l.byName(), nil
	case l.Single != nil:
		return l.asPage(), nil
	default:
		return l.asTable(), nil
	}
}

// forEach prints the list as one object, or the one item, and each change by itself.
func (l *List[T]) forEach(show func(object any) error) printer[T] {
	each := func(items []T) error {
		for i := range items {
			if err := show(&items[i]); err != nil {
				return err
			}
		}
		return nil
	}
	whole := func(items []T) error { return show(l.Wrap(items)) }
	if l.Single != nil {
		whole = each
	}
	return printer[T]{whole: whole, changed: each, state: func(item *T) string {
		text, _ := json.Marshal(item) // it has been encoded before
		return string(text)
	}}
}

func (l *List[T]) byPath(template string) (printer[T], error) {
	path, err := parsePath(template)
	if err != nil {
		return printer[T]{}, fmt.Errorf("--output jsonpath: %w", err)
	}
	return l.forEach(func(object any) error {
		values, err := valuesOf(object)
		if err != nil {
			return err
		}
		l.nameItems(values)
		var text strings.Builder
		if err := path.Execute(&text, values); err != nil {
			return fmt.Errorf("--output jsonpath: %w", err)
		}
		_, err = io.WriteString(l.factory.Out, text.String())
		return err
	}), nil
}

// nameItems lets templates call the items of any list items, as kubectl does.
func (l *List[T]) nameItems(values any) {
	object, isObject := values.(map[string]any)
	if isObject && object["items"] == nil && object[l.Kind] != nil {
		object["items"] = object[l.Kind]
	}
}

func (l *List[T]) byName() printer[T] {
	p := l.forEach(nil)
	p.changed = func(items []T) error {
		for i := range items {
			fmt.Fprintln(l.factory.Out, l.Prefix+display.OneLine(l.Key(&items[i]).Name))
		}
		return nil
	}
	p.whole = p.changed
	return p
}

func (l *List[T]) asPage() printer[T] {
	p := l.forEach(nil)
	p.changed = func(items []T) error {
		for i := range items {
			l.Single(&items[i])
		}
		return nil
	}
	p.whole = p.changed
	return p
}

func (l *List[T]) asTable() printer[T] {
	table := l.table()
	p := printer[T]{state: l.lasting}
	p.changed = func(items []T) error {
		for i := range items {
			table.Add(l.row(&items[i])...)
		}
		table.Write(l.factory.Out)
		return nil
	}
	p.whole = func(items []T) error {
		if len(items) == 0 {
			l.sayEmpty()
			return nil
		}
		if err := p.changed(items); err != nil || l.Below == nil || l.IsWatch || l.noHeaders {
			return err
		}
		l.Below(items)
		return nil
	}
	return p
}

// valuesOf returns an object as JSON has it, with the fields by their JSON names.
func valuesOf(object any) (values any, err error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return values, jsonvalues.Unmarshal(text, &values)
}
