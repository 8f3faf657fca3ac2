// Package output keeps what commands of the JSON form write, until it is sent.
//
//	out := output.New(memory.Output, owner, live.MaxExecOutputBytes)
//	defer out.Release()
//	run(driver.Streams{Stdout: out.Stdout(), Stderr: out.Stderr()})
//	out.PutInto(status)
//	full := out.Cover(len(encoded))
//
// Trade-offs: of an output that is too long for its bound, or for the memory that all may
// take, only the beginning is kept.
package output

import (
	"io"
	"strings"
	"unicode/utf8"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
)

// Cost is how many bytes are held for each byte of output: the buffer may be twice
// as long as what is in it. Its JSON, which takes its place, is at most twice as long.
const Cost = 2

// capture keeps the beginning of an output and drops the rest, so that the
// command can go on. It keeps less when all outputs together are too much.
type capture struct {
	quota     *quota.Quota
	owner     quota.Owner
	kept      strings.Builder
	most      int // bytes that are kept
	truncated bool
	// taken is what the quota counts.
	taken int64
}

// Output is what one command has written. Only its writers may be used while the command
// runs; they are for one goroutine each.
type Output struct {
	stdout, stderr capture
	// more is what the quota counts beside both.
	more int64
}

// New returns an Output of nothing yet, whose streams keep at most that many bytes each.
func New(q *quota.Quota, owner quota.Owner, most int) *Output {
	return &Output{stdout: capture{quota: q, owner: owner, most: most}, stderr: capture{quota: q, owner: owner, most: most}}
}

// Stdout returns the writer of one of the two streams.
func (o *Output) Stdout() io.Writer { return &o.stdout }

// Stderr returns the writer of the other one.
func (o *Output) Stderr() io.Writer { return &o.stderr }

// Cover counts an encoded answer as far as its outputs do not count already, as those of
// a result that was remembered.
func (o *Output) Cover(length int) quota.Full {
	more := max(0, int64(length)-o.stdout.taken-o.stderr.taken-o.more)
	full := o.stdout.quota.Take(o.stdout.owner, more)
	if full == quota.Free {
		o.more += more
	}
	return full
}

// Release gives back what the outputs took. It is called once, when they are neither
// written nor held.
func (o *Output) Release() {
	c := &o.stdout
	c.quota.Add(c.owner, -c.taken-o.stderr.taken-o.more)
}

// PutInto moves the outputs into a result. They still count.
func (o *Output) PutInto(status *live.ExecStatus) {
	status.Stdout, status.StdoutBytes = o.stdout.text()
	status.Stderr, status.StderrBytes = o.stderr.text()
	status.Truncated = o.stdout.truncated || o.stderr.truncated
	o.stdout.kept, o.stderr.kept = strings.Builder{}, strings.Builder{}
}

func (c *capture) Write(p []byte) (int, error) {
	keep := min(len(p), c.most-c.kept.Len())
	// What comes after a gap is not the beginning.
	if cost := int64(keep) * Cost; c.truncated || c.quota.Take(c.owner, cost) != quota.Free {
		keep = 0
	} else {
		c.taken += cost
	}
	c.truncated = c.truncated || keep < len(p)
	c.kept.Write(p[:keep])
	return len(p), nil
}

// text returns the output as a string if it is UTF-8 of which JSON makes at most twice
// as much, else as bytes. A character that the bound cuts in two is left out.
func (c *capture) text() (string, []byte) {
	kept := c.kept.String()
	if c.truncated {
		kept = withoutHalfCharacter(kept)
	}
	if utf8.ValidString(kept) && jsonLength(kept) <= Cost*len(kept) {
		return strings.Clone(kept), nil // without the rest of its buffer
	}
	return "", []byte(c.kept.String())
}

// jsonLength is how many bytes a string that is UTF-8 takes in JSON, without its quotes.
func jsonLength(s string) int {
	length := len(s)
	for i := range len(s) {
		switch b := s[i]; {
		case strings.IndexByte("\"\\\b\f\n\r\t", b) >= 0:
			length++
		case b < ' ':
			length += len(`\u0000`) - 1
		}
	}
	return length
}

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
