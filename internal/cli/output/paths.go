package output

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/client-go/util/jsonpath"

	"github.com/connpool/connpool/internal/cli/display"
)

// parsePath parses a template as kubectl's -o jsonpath does. A field that an object
// lacks is empty.
func parsePath(template string) (*jsonpath.JSONPath, error) {
	path := jsonpath.New("path").AllowMissingKeys(true)
	if err := path.Parse(template); err != nil {
		return nil, fmt.Errorf("%q is not a valid JSONPath: %w", template, err)
	}
	return path, nil
}

// parseField parses the path of one field, which may lack the braces and the dot.
func parseField(expression string) (*jsonpath.JSONPath, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(expression, "{"), "}")
	if inner == "" {
		return nil, errors.New("name a field, such as .metadata.name")
	}
	return parsePath("{." + strings.TrimPrefix(inner, ".") + "}")
}

// fieldOf returns the values of a field, none if the object lacks it.
func fieldOf(path *jsonpath.JSONPath, object any) ([]any, error) {
	values, err := valuesOf(object)
	if err != nil {
		return nil, err
	}
	results, err := path.FindResults(values)
	if err != nil {
		return nil, err
	}
	var found []any
	for _, result := range results {
		for _, value := range result {
			if value.IsValid() && value.CanInterface() && value.Interface() != nil {
				found = append(found, value.Interface())
			}
		}
	}
	return found, nil
}

// sort sorts items by the field of --sort-by, those without it first.
func (l *List[T]) sort(items []T) error {
	if l.sortBy == "" || len(items) == 0 {
		return nil
	}
	path, err := parseField(l.sortBy)
	if err != nil {
		return fmt.Errorf("--sort-by: %w", err)
	}
	type keyed struct {
		item T
		key  any
	}
	all, isKnown := make([]keyed, 0, len(items)), false
	for i := range items {
		values, err := fieldOf(path, &items[i])
		if err != nil {
			return fmt.Errorf("--sort-by: %w", err)
		}
		entry := keyed{item: items[i]}
		if len(values) > 0 {
			entry.key, isKnown = values[0], true
		}
		all = append(all, entry)
	}
	if !isKnown {
		return fmt.Errorf("--sort-by: none of the %s has the field %s: see the fields with -o json", l.Kind, l.sortBy)
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return compare(a.key, b.key) })
	for i := range all {
		items[i] = all[i].item
	}
	return nil
}

// compare orders values of JSON: absent ones, then numbers, then text.
func compare(a, b any) int {
	x, aIsNumber := numberOf(a)
	y, bIsNumber := numberOf(b)
	switch {
	case a == nil || b == nil:
		return cmp.Compare(present(a), present(b))
	case aIsNumber && bIsNumber:
		return cmp.Compare(x, y)
	default:
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}
}

func present(value any) int {
	if value == nil {
		return 0
	}
	return 1
}

func numberOf(value any) (number float64, ok bool) {
	switch n := value.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	default:
		return 0, false
	}
}

// byColumns prints a table of fields, from TITLE:FIELD,TITLE:FIELD.
func (l *List[T]) byColumns(spec string) (printer[T], error) {
	table := &display.Table{NoHeaders: l.noHeaders}
	var paths []*jsonpath.JSONPath
	for column := range strings.SplitSeq(spec, ",") {
		title, field, hasField := strings.Cut(column, ":")
		if !hasField || title == "" {
			return printer[T]{}, fmt.Errorf(
				"--output custom-columns: %q is not of the form TITLE:FIELD, such as NAME:.metadata.name", column)
		}
		path, err := parseField(field)
		if err != nil {
			return printer[T]{}, fmt.Errorf("--output custom-columns: %w", err)
		}
		table.Columns, paths = append(table.Columns, title), append(paths, path)
	}
	p := l.forEach(nil)
	p.changed = func(items []T) error {
		for i := range items {
			row, err := cellsOf(paths, &items[i])
			if err != nil {
				return fmt.Errorf("--output custom-columns: %w", err)
			}
			table.Add(row...)
		}
		table.Write(l.factory.Out)
		return nil
	}
	p.whole = p.changed
	return p, nil
}

func cellsOf(paths []*jsonpath.JSONPath, object any) (row []string, err error) {
	for _, path := range paths {
		values, err := fieldOf(path, object)
		if err != nil {
			return nil, err
		}
		var words []string
		for _, value := range values {
			words = append(words, fmt.Sprint(value))
		}
		row = append(row, cmp.Or(strings.Join(words, ","), "<none>"))
	}
	return row, nil
}
