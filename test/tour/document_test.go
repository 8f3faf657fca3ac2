package tour

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

// step is a command of a document, and what it prints.
type step struct {
	document string
	section  string // the heading above it
	line     int    // of the command, from 0
	indent   string
	command  string
	want     []string
	wantLine int // of the first line of want
}

// isSetUp reports whether all that follows needs the step.
func (s step) isSetUp() bool { return s.command == runLab || strings.HasPrefix(s.command, "export ") }

const prompt = "$ "

var hereDocument = regexp.MustCompile(`<<-?'?([A-Z]+)'?$`)

// read returns the lines of a document of this repository.
func read(t *testing.T, document string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout(t), document))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

func checkout(t *testing.T) string {
	t.Helper()
	root, err := binaries.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// parse finds the steps in the lines of a document.
func parse(document string, lines []string) (steps []step) {
	section := ""
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "#") {
			section = lines[i]
		}
		indent := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " "))]
		if len(indent) < 4 || !strings.HasPrefix(lines[i][len(indent):], prompt) {
			continue
		}
		s := step{document: document, section: section, line: i, indent: indent}
		i = s.readCommand(lines)
		i = s.readOutput(lines, i)
		steps = append(steps, s)
	}
	return steps
}

// readCommand returns the number of the line after the command.
func (s *step) readCommand(lines []string) int {
	i := s.line
	s.command = strings.TrimPrefix(lines[i], s.indent+prompt)
	end := ""
	if found := hereDocument.FindStringSubmatch(s.command); len(found) > 1 {
		end = found[1]
	}
	for i++; i < len(lines) && (end != "" || strings.HasSuffix(s.command, "|") || strings.HasSuffix(s.command, `\`)); i++ {
		line := strings.TrimPrefix(lines[i], s.indent)
		s.command += "\n" + line
		if end != "" && line == end {
			return i + 1
		}
	}
	return i
}

// readOutput returns the number of the last line of the output.
func (s *step) readOutput(lines []string, i int) int {
	s.wantLine = i
	for ; i < len(lines) && s.isOutput(lines, i); i++ {
		s.want = append(s.want, strings.TrimPrefix(lines[i], s.indent))
	}
	for len(s.want) > 0 && s.want[len(s.want)-1] == "" {
		s.want = s.want[:len(s.want)-1]
	}
	return i - 1
}

// isOutput reports whether a line belongs to the block, and is no command.
func (s *step) isOutput(lines []string, i int) bool {
	if lines[i] == "" {
		return i+1 < len(lines) && strings.HasPrefix(lines[i+1], s.indent)
	}
	return strings.HasPrefix(lines[i], s.indent) && !strings.HasPrefix(lines[i], s.indent+prompt)
}

// rewrite puts what was printed into a document, from the last step to the first, so that
// the numbers of lines stay right.
func rewrite(t *testing.T, document string, steps []step, printed map[int][]string) {
	t.Helper()
	lines := read(t, document)
	for _, s := range slices.Backward(steps) {
		out, ok := printed[s.line]
		if !ok {
			continue
		}
		var block []string
		for _, line := range out {
			block = append(block, strings.TrimRight(s.indent+line, " "))
		}
		lines = append(lines[:s.wantLine:s.wantLine], append(block, lines[s.wantLine+len(s.want):]...)...)
	}
	if err := os.WriteFile(filepath.Join(checkout(t), document), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestParse(t *testing.T) {
	lines := strings.Split(`# Title

    $ one
    out

    more

    $ cat <<EOF
    x
    EOF
    $ a |
        b
    c

Text.

    no command`, "\n")
	var got []string
	for _, s := range parse("d", lines) {
		got = append(got, s.command+" -> "+strings.Join(s.want, "/"))
	}
	want := "one -> out//more; cat <<EOF\nx\nEOF -> ; a |\n    b -> c"
	if strings.Join(got, "; ") != want {
		t.Errorf("%q, want %q", strings.Join(got, "; "), want)
	}
}
