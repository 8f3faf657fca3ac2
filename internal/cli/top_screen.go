package cli

import (
	"io"
	"slices"
	"strings"

	"github.com/connpool/connpool/client"
)

// What tells a terminal to show another page, and to come back to the one that
// was there.
const (
	enterPage = "\x1b[?1049h\x1b[?25l"
	leavePage = "\x1b[?25h\x1b[?1049l"
	topLeft   = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

const topKeys = "u uses  a age  i in use  r round trip  n name  R reverse  p pools  q quit"

// page is one screen: the summary, what went wrong last, the table as far as
// there is room, and the keys.
func page(v topView, s snapshot, problem string, size client.Size) []string {
	body := v.table(s).lines()
	head := []string{s.summary() + "  (" + s.at.Format("15:04:05") + ")", oneLine(problem)}
	room := max(int(size.Rows)-len(head)-1, 1)
	lines := slices.Concat(head, body[:min(len(body), room)], []string{topKeys})
	lines = lines[:min(len(lines), int(size.Rows))]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > int(size.Columns) {
			lines[i] = string(runes[:size.Columns])
		}
	}
	return lines
}

// draw replaces what is shown. A raw terminal wants both characters of a line's
// end.
func draw(out io.Writer, lines []string) error {
	_, err := io.WriteString(out, topLeft+strings.Join(lines, clearLine+"\r\n")+clearLine+clearRest)
	return err
}
