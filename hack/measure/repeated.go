package main

import (
	"go/token"
	"strings"
)

// minRun is from how many lines on a repetition counts.
const minRun = 6

// repeated returns how many runs of lines occur again after their first occurrence, and
// how many lines those repetitions have.
func repeated(files []file) (runs, lines int) {
	first := map[string]bool{}
	for _, f := range files {
		text := f.statements()
		again := make([]bool, len(text))
		var keys []string
		for i := range max(0, len(text)-minRun+1) {
			key := strings.Join(text[i:i+minRun], "\n")
			keys = append(keys, key)
			if first[key] {
				for j := range minRun {
					again[i+j] = true
				}
			}
			// A file repeats itself only where the second run begins after the end of the first.
			if i >= minRun-1 {
				first[keys[i-minRun+1]] = true
			}
		}
		for _, key := range keys {
			first[key] = true
		}
		runs += countRuns(again)
		lines += countTrue(again)
	}
	return runs, lines
}

// statements returns the lines of code of a file, without indentation, from the end of the imports on.
func (f file) statements() []string {
	last := f.fset.Position(f.tree.Name.End()).Line
	for _, spec := range f.tree.Imports {
		last = max(last, f.fset.Position(spec.End()).Line)
	}
	var text []string
	for _, line := range f.code {
		if line < last {
			continue
		}
		trimmed := strings.TrimSpace(f.text[line])
		if len(text) == 0 && trimmed == token.RPAREN.String() {
			continue // the end of the imports
		}
		text = append(text, trimmed)
	}
	return text
}

func countTrue(marks []bool) int {
	n := 0
	for _, mark := range marks {
		if mark {
			n++
		}
	}
	return n
}

// countRuns counts the groups of successive true marks.
func countRuns(marks []bool) int {
	n := 0
	for i, mark := range marks {
		if mark && (i == 0 || !marks[i-1]) {
			n++
		}
	}
	return n
}
