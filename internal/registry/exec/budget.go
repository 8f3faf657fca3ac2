package exec

import (
	"strings"
	"sync"
	"unicode/utf8"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// budget bounds how many bytes are held at the same time.
type budget struct {
	// most bounds all of them, mostUser those of one user.
	most, mostUser int64

	mu    sync.Mutex // guards what follows
	bytes int64
	users map[string]int64
}

func newBudget(most, mostUser int64) *budget {
	return &budget{most: most, mostUser: mostUser, users: map[string]int64{}}
}

// take counts more bytes, and reports whether that is within the bounds.
func (b *budget) take(user string, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+bytes > b.most || b.users[user]+bytes > b.mostUser {
		return false
	}
	b.count(user, bytes)
	return true
}

// give gives back what take has counted.
func (b *budget) give(user string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(user, -bytes)
}

func (b *budget) count(user string, bytes int64) {
	b.bytes += bytes
	if b.users[user] += bytes; b.users[user] == 0 {
		delete(b.users, user)
	}
}

// capture keeps the beginning of an output and drops the rest, so that the
// command can go on. It keeps less when all outputs together are too much.
type capture struct {
	budget    *budget
	user      string
	kept      strings.Builder
	truncated bool
}

// output is what the command of a JSON form writes.
type output struct{ stdout, stderr capture }

func newOutput(b *budget, user string) *output {
	return &output{stdout: capture{budget: b, user: user}, stderr: capture{budget: b, user: user}}
}

// release says that the output is held no longer. It is called once, when the
// command writes no more.
func (o *output) release() {
	o.stdout.release()
	o.stderr.release()
}

// putInto puts what was kept into a status.
func (o *output) putInto(status *live.ExecStatus) {
	status.Stdout, status.StdoutBytes = o.stdout.text()
	status.Stderr, status.StderrBytes = o.stderr.text()
	status.Truncated = o.stdout.truncated || o.stderr.truncated
}

// Write implements io.Writer.
func (c *capture) Write(p []byte) (int, error) {
	keep := min(len(p), live.MaxExecOutputBytes-c.kept.Len())
	// What comes after a gap is not the beginning.
	if c.truncated || !c.budget.take(c.user, int64(keep)) {
		keep = 0
	}
	c.truncated = c.truncated || keep < len(p)
	c.kept.Write(p[:keep])
	return len(p), nil
}

func (c *capture) release() { c.budget.give(c.user, int64(c.kept.Len())) }

// text returns the output as a string if it is UTF-8, else as bytes. A character
// that the bound cuts in two is left out.
func (c *capture) text() (string, []byte) {
	kept := c.kept.String()
	if c.truncated {
		kept = withoutHalfCharacter(kept)
	}
	if utf8.ValidString(kept) {
		return kept, nil
	}
	return "", []byte(c.kept.String())
}

// withoutHalfCharacter cuts an incomplete character off the end.
func withoutHalfCharacter(s string) string {
	for back := 1; back < utf8.UTFMax && back <= len(s); back++ {
		if start := len(s) - back; utf8.RuneStart(s[start]) {
			if !utf8.FullRuneInString(s[start:]) {
				return s[:start]
			}
			return s
		}
	}
	return s
}
