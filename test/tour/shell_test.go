package tour

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stepLimit bounds how long a command may take, or be repeated.
const stepLimit = 90 * time.Second

// shell is a shell in which the commands of a document run one after the other, in a
// folder that looks like a checkout.
type shell struct {
	t     *testing.T
	dir   string
	input io.WriteCloser
	done  chan string // the exit code of each command
}

func newShell(t *testing.T, dir string, environment ...string) *shell {
	t.Helper()
	s := &shell{t: t, dir: dir, done: make(chan string)}
	cmd := exec.Command("bash")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	var err error
	if s.input, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	results, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.relay(results)
	t.Cleanup(func() {
		_ = s.input.Close()
		_ = cmd.Wait()
	})
	return s
}

// relay passes on what the shell prints: a line for each command that has ended.
func (s *shell) relay(results io.Reader) {
	defer close(s.done)
	buffer := make([]byte, 64)
	for {
		n, err := results.Read(buffer)
		if err != nil {
			return
		}
		s.done <- strings.TrimSpace(string(buffer[:n]))
	}
}

func (s *shell) path(name string) string { return filepath.Join(s.dir, name) }

// run runs a command and returns the lines that it printed, and its exit code.
func (s *shell) run(command string) (lines []string, code string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(".step"), []byte(command+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	// A terminal for what needs one, which is left at once.
	call := ". ./.step </dev/null"
	if strings.Contains(command, " -it") {
		call = "echo exit | script -qec '. ./.step' /dev/null"
	}
	if _, err := io.WriteString(s.input, call+" >.printed 2>&1; echo $?\n"); err != nil {
		s.t.Fatal(err)
	}
	select {
	case code = <-s.done:
	case <-time.After(stepLimit):
		s.t.Fatalf("%s\nhas not ended after %s; it printed\n%s", command, stepLimit, strings.Join(s.printed(), "\n"))
	}
	return s.printed(), code
}

func (s *shell) printed() []string {
	text, err := os.ReadFile(s.path(".printed"))
	if err != nil {
		s.t.Fatal(err)
	}
	return linesOf(text)
}

func linesOf(text []byte) []string {
	text = bytes.TrimRight(text, "\n")
	if len(text) == 0 {
		return nil
	}
	return strings.Split(string(text), "\n")
}
