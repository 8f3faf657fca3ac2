package top

import (
	"io"
	"slices"
	"strings"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/display"
)

// Escape sequences that make a terminal show another page, and come back to the
// one before.
const (
	enterPage = "\x1b[?1049h\x1b[?25l"
	leavePage = "\x1b[?25h\x1b[?1049l"
	topLeft   = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

const keyHelp = "u uses  a age  i in use  r round trip  n name  R reverse  p pools  q quit"

// page returns the lines of one screen: the summary, the last error, as much of
// the table as there is room for, and the keys.
func page(v view, s snapshot, problem string, size client.Size) []string {
	body := v.table(s).Lines()
	head := []string{s.summary() + "  (" + s.at.Format("15:04:05") + ")", display.OneLine(problem)}
	room := max(int(size.Rows)-len(head)-1, 1)
	lines := slices.Concat(head, body[:min(len(body), room)], []string{keyHelp})
	lines = lines[:min(len(lines), int(size.Rows))]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > int(size.Columns) {
			lines[i] = string(runes[:size.Columns])
		}
	}
	return lines
}

// draw replaces what is shown. A raw terminal needs both characters of a line's
// end.
func draw(out io.Writer, lines []string) error {
	_, err := io.WriteString(out, topLeft+strings.Join(lines, clearLine+"\r\n")+clearLine+clearRest)
	return err
}
