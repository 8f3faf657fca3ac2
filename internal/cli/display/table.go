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

	rows [][]string
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
	fmt.Fprintln(w, strings.Join(t.Columns, "\t"))
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a builder never fails
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}
