package atmostonce

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// script says what one command does.
type script struct {
	id    string
	lines int
	pause time.Duration
	exit  int
}

func (l Load) script(n, try int) script {
	return script{id: fmt.Sprintf("%s-%d.%d", l.Ledger.run, n, try), lines: l.Lines, pause: l.Pause, exit: n % 3}
}

// text returns the command line, for a POSIX shell.
func (s script) text(ledger string) string {
	pause := ":"
	if s.pause > 0 {
		pause = fmt.Sprintf("[ $i -ne %d ] || sleep %g", s.lines/2, s.pause.Seconds())
	}
	return fmt.Sprintf(
		`printf '%%s\n' %s >>%s; i=0; while [ $i -lt %d ]; do i=$((i+1)); echo "%s $i"; %s; done; exit %d`,
		s.id, ledger, s.lines, s.id, pause, s.exit)
}

// output returns what the command prints when it runs once.
func (s script) output() string {
	var text strings.Builder
	for i := 1; i <= s.lines; i++ {
		fmt.Fprintf(&text, "%s %d\n", s.id, i)
	}
	return text.String()
}

// Ledger is the file to which commands append.
type Ledger struct {
	path, run string
}

// NewLedger makes the file. Every user can append to it, because the target's user
// may be another than the checker's. The path must not need quoting in a shell.
func NewLedger(path string) (*Ledger, error) {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, err
	}
	return &Ledger{path: path, run: fmt.Sprintf("r%x", time.Now().UnixNano())}, os.Chmod(path, 0o666) //nolint:gosec // see above
}

// counts returns how often each command ran, by its ID.
func (l *Ledger) counts() (map[string]int, error) {
	data, err := os.ReadFile(l.path)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for id := range strings.Lines(string(data)) {
		counts[strings.TrimSuffix(id, "\n")]++
	}
	return counts, nil
}
