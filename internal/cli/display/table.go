package display

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table aligns columns as kubectl does.
type Table struct {
	Columns []string

	rows   [][]string
	hidden map[string]bool
}

// ShowOnlyIf hides columns unless the condition holds. Rows have their cells all
// the same.
func (t *Table) ShowOnlyIf(condition bool, columns ...string) {
	if t.hidden == nil {
		t.hidden = map[string]bool{}
	}
	for _, column := range columns {
		t.hidden[column] = !condition
	}
}

// Add appends a row. Its cells lose what could steer a terminal.
func (t *Table) Add(cells ...string) {
	for i, cell := range cells {
		cells[i] = OrNone(cell)
	}
	t.rows = append(t.rows, cells)
}

// Write prints the table.
func (t *Table) Write(out io.Writer) {
	for _, line := range t.Lines() {
		fmt.Fprintln(out, line)
	}
}

// Lines returns the header and the rows.
func (t *Table) Lines() []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{t.Columns}, t.rows...) {
		fmt.Fprintln(w, strings.Join(t.shown(row), "\t"))
	}
	_ = w.Flush() // a builder never fails
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// shown returns the cells of the columns that are not hidden.
func (t *Table) shown(row []string) []string {
	var cells []string
	for i, cell := range row {
		if !t.hidden[t.Columns[i]] {
			cells = append(cells, cell)
		}
	}
	return cells
}
