package lab

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// screen shows a text that changes: in place on a terminal, anew elsewhere.
type screen struct {
	out      io.Writer
	terminal int // file descriptor, or -1
	lines    int // how many are on the terminal now
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out, terminal: -1}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		s.terminal = int(file.Fd())
	}
	return s
}

// isLive reports whether a text can be replaced.
func (s *screen) isLive() bool { return s.terminal >= 0 }

const (
	cursorUp   = "\x1b[%dA\r"
	clearBelow = "\x1b[J"
)

// show replaces what it has shown before, or prints below it.
func (s *screen) show(text string) {
	if !s.isLive() {
		fmt.Fprint(s.out, text)
		return
	}
	if s.lines > 0 {
		fmt.Fprintf(s.out, cursorUp, s.lines)
	}
	lines := s.fit(text)
	s.lines = len(lines)
	fmt.Fprint(s.out, clearBelow, strings.Join(lines, "\n"), "\n")
}

// leave begins a new line, after the ^C that a terminal shows.
func (s *screen) leave() {
	if s.isLive() {
		fmt.Fprintln(s.out)
	}
}

// fit cuts what would wrap or scroll, because then the cursor would come back
// to the wrong line.
func (s *screen) fit(text string) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	width, height, err := term.GetSize(s.terminal)
	if err != nil || width <= 0 || height <= 1 {
		return lines
	}
	lines = lines[:min(len(lines), height-1)]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > width {
			lines[i] = string(runes[:width])
		}
	}
	return lines
}
