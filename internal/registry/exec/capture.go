package exec

import (
	"strings"
	"unicode/utf8"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
)

// capture keeps the beginning of an output and drops the rest, so that the
// command can go on. It keeps less when all outputs together are too much.
type capture struct {
	quota     *quota.Quota
	user      string
	kept      strings.Builder
	truncated bool
}

// output is what the command of a JSON form writes.
type output struct{ stdout, stderr capture }

func newOutput(q *quota.Quota, user string) *output {
	return &output{stdout: capture{quota: q, user: user}, stderr: capture{quota: q, user: user}}
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

func (c *capture) Write(p []byte) (int, error) {
	keep := min(len(p), live.MaxExecOutputBytes-c.kept.Len())
	// What comes after a gap is not the beginning.
	if c.truncated || !c.quota.Take(c.user, int64(keep)) {
		keep = 0
	}
	c.truncated = c.truncated || keep < len(p)
	c.kept.Write(p[:keep])
	return len(p), nil
}

func (c *capture) release() { c.quota.Add(c.user, -int64(c.kept.Len())) }

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
