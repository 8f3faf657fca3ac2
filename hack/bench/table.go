package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// row is one line of the table: a figure of connpool, what it is compared with,
// and its goal.
type row struct {
	Name string  `json:"name"`
	Ours float64 `json:"ours"`
	Unit string  `json:"unit"`
	// Beside names the comparator; empty when there is none, and then Theirs and
	// Ratio are 0.
	Beside string  `json:"beside,omitempty"`
	Theirs float64 `json:"theirs,omitempty"`
	// Ratio is Ours by Theirs.
	Ratio float64 `json:"ratio,omitempty"`
	Goal  string  `json:"goal,omitempty"`
	// Met is absent where there is no goal.
	Met *bool `json:"met,omitempty"`
}

// figure is a row without a comparator.
func figure(name string, ours float64, unit string) row {
	return row{Name: name, Ours: ours, Unit: unit}
}

// compared is a row with one.
func compared(name string, ours float64, unit, beside string, theirs float64) row {
	return row{Name: name, Ours: ours, Unit: unit, Beside: beside, Theirs: theirs, Ratio: ours / theirs}
}

// ratioAtMost sets a goal for the ratio.
func (r row) ratioAtMost(limit float64) row {
	met := r.Ratio <= limit
	r.Goal, r.Met = fmt.Sprintf("<= %.2fx", limit), &met
	return r
}

// ratioAtLeast sets a goal for the ratio, where more is better.
func (r row) ratioAtLeast(limit float64) row {
	met := r.Ratio >= limit
	r.Goal, r.Met = fmt.Sprintf(">= %.2fx", limit), &met
	return r
}

// atMost sets a goal for the figure itself.
func (r row) atMost(limit float64) row {
	met := r.Ours <= limit
	r.Goal, r.Met = "<= "+amount(limit, r.Unit), &met
	return r
}

// atLeast sets a goal for the figure itself.
func (r row) atLeast(limit float64) row {
	met := r.Ours >= limit
	r.Goal, r.Met = ">= "+amount(limit, r.Unit), &met
	return r
}

// format prints the table, its columns aligned.
func format(rows []row) string {
	lines := [][]string{{"what", "ours", "beside", "theirs", "ratio", "goal", "met"}}
	for _, r := range rows {
		lines = append(lines, r.cells())
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var table strings.Builder
	for _, line := range lines {
		var text strings.Builder
		for i, cell := range line {
			text.WriteString(pad(cell, widths[i], isNumber(i)) + "  ")
		}
		table.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
	return table.String()
}

func (r row) cells() []string {
	cells := []string{r.Name, amount(r.Ours, r.Unit), "-", "-", "-", "-", "-"}
	if r.Beside != "" {
		cells[2], cells[3], cells[4] = r.Beside, amount(r.Theirs, r.Unit), fmt.Sprintf("%.2fx", r.Ratio)
	}
	if r.Met != nil {
		cells[5], cells[6] = r.Goal, map[bool]string{true: "yes", false: "NO"}[*r.Met]
	}
	return cells
}

// isNumber reports whether a column is aligned to the right.
func isNumber(column int) bool { return column == 1 || column >= 3 && column <= 5 }

func pad(cell string, width int, right bool) string {
	space := strings.Repeat(" ", width-utf8.RuneCountInString(cell))
	if right {
		return space + cell
	}
	return cell + space
}

// amount formats a number with three significant digits.
func amount(n float64, unit string) string {
	digits := 2
	switch {
	case n == float64(int64(n)), n >= 100:
		digits = 0
	case n >= 10:
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, n, unit)
}
