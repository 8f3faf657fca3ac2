package display

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table aligns columns as kubectl does. It can be written in parts: the head comes
// with the first part, and later ones are aligned with those before.
type Table struct {
	Columns []string
	// NoHeaders leaves the head out.
	NoHeaders bool
	// Colors are the color of a cell by its column, for those that are colored.
	Colors map[string]func(cell string) string
	// Paint allows the colors.
	Paint Paint

	rows   [][]string
	hidden map[string]bool
	// widths are those of the shown columns so far, in characters.
	widths []int
}

// ShowOnlyIf hides columns, whose cells each row has, unless the condition holds.
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

// Write prints the rows that are not printed yet.
func (t *Table) Write(out io.Writer) {
	for _, line := range t.Lines() {
		fmt.Fprintln(out, line)
	}
}

// Lines returns the rows that are not printed yet, behind the head if it is not.
func (t *Table) Lines() []string {
	names := t.shownOf(t.Columns)
	rows := make([][]string, 0, len(t.rows)+1)
	hasHead := t.widths == nil && !t.NoHeaders
	if hasHead {
		rows = append(rows, names)
	}
	for _, row := range t.rows {
		rows = append(rows, t.shownOf(row))
	}
	t.rows = nil
	t.widen(rows)
	lines := make([]string, 0, len(rows))
	for i, row := range rows {
		lines = append(lines, t.line(names, row, i == 0 && hasHead))
	}
	return lines
}

func (t *Table) shownOf(row []string) (cells []string) {
	for i, cell := range row {
		if !t.hidden[t.Columns[i]] {
			cells = append(cells, cell)
		}
	}
	return cells
}

func (t *Table) widen(rows [][]string) {
	for _, row := range rows {
		if t.widths == nil {
			t.widths = make([]int, len(row))
		}
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
}

func (t *Table) line(columns, row []string, isHead bool) string {
	const between = 3
	var b strings.Builder
	for i, cell := range row {
		text := cell
		if color := t.Colors[columns[i]]; color != nil && !isHead {
			text = t.Paint.In(color(cell), cell)
		}
		b.WriteString(text)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+between))
		}
	}
	return b.String()
}
