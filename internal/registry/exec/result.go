package exec

import (
	"strconv"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/use"
)

// Reasons of the status that ends a stream, when the command has no exit code.
const (
	reasonNotStarted metav1.StatusReason = "CommandNotStarted"
	reasonUnknown    metav1.StatusReason = "CommandOutcomeUnknown"
)

// streamStatus puts a result into the words of the remote command protocol. Clients
// look for the exit code, some of them in the first cause only.
func streamStatus(r *use.Result, requestID string) *metav1.Status {
	status := &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{Causes: causes(r, requestID)}}
	switch {
	case r.Completed() && r.Code == 0:
		return status
	case r.Completed():
		code := strconv.Itoa(max(0, min(r.Code, 255)))
		exit := metav1.StatusCause{Type: remotecommand.ExitCodeCauseType, Message: code}
		status.Details.Causes = append([]metav1.StatusCause{exit}, status.Details.Causes...)
		status.Reason, status.Message = remotecommand.NonZeroExitCodeReason, "command terminated with exit code "+code
	case r.Outcome == live.OutcomeNotStarted:
		status.Reason, status.Message = reasonNotStarted, r.Message
	default:
		status.Reason, status.Message = reasonUnknown, r.Message
	}
	status.Status = metav1.StatusFailure
	return status
}

func causes(r *use.Result, requestID string) (causes []metav1.StatusCause) {
	for _, cause := range []metav1.StatusCause{
		{Type: live.CauseOutcome, Message: string(r.Outcome)},
		{Type: live.CauseReason, Message: r.Reason},
		{Type: live.CauseSignal, Message: r.Signal},
		{Type: live.CauseTarget, Message: r.Lease.Target},
		{Type: live.CauseConnection, Message: r.Lease.Connection},
		{Type: live.CauseContainer, Message: r.Lease.Container},
		{Type: live.CauseAcquired, Message: string(r.Lease.Acquired)},
		{Type: live.CauseRequestID, Message: requestID},
		{Type: live.CauseAcquireMicroseconds, Message: strconv.FormatInt(r.Lease.Wait.Microseconds(), 10)},
		{Type: live.CauseDurationMicroseconds, Message: strconv.FormatInt(r.Duration.Microseconds(), 10)},
	} {
		if cause.Message != "" {
			causes = append(causes, cause)
		}
	}
	return causes
}

// execStatus puts a result into the words of the JSON form, but for the output.
func execStatus(r *use.Result, requestID string) *live.ExecStatus {
	status := &live.ExecStatus{
		Outcome: r.Outcome, Signal: r.Signal, Reason: r.Reason, Message: r.Message,
		Target: r.Lease.Target, Container: r.Lease.Container, Connection: r.Lease.Connection,
		RequestID: requestID, Acquired: r.Lease.Acquired,
		AcquireMicroseconds: r.Lease.Wait.Microseconds(), DurationMicroseconds: r.Duration.Microseconds(),
	}
	if r.Completed() {
		status.ExitCode = new(int32(r.Code))
	}
	return status
}

// outputCost is how many bytes are held for each byte of output: the buffer may be twice
// as long as what is in it. Its JSON, which takes its place, is at most twice as long.
const outputCost = 2

// capture keeps the beginning of an output and drops the rest, so that the
// command can go on. It keeps less when all outputs together are too much.
type capture struct {
	quota     *quota.Quota
	owner     quota.Owner
	kept      strings.Builder
	truncated bool
	// taken is what the quota counts.
	taken int64
}

type output struct {
	stdout, stderr capture
	// more is what the quota counts beside both.
	more int64
}

func newOutput(q *quota.Quota, owner quota.Owner) *output {
	return &output{stdout: capture{quota: q, owner: owner}, stderr: capture{quota: q, owner: owner}}
}

// cover counts an encoded answer as far as its outputs do not count already, as those of
// a result that was remembered.
func (o *output) cover(length int) quota.Full {
	more := max(0, int64(length)-o.stdout.taken-o.stderr.taken)
	full := o.stdout.quota.Take(o.stdout.owner, more)
	if full == quota.Free {
		o.more = more
	}
	return full
}

// release gives back what the outputs took. It is called once, when they are neither
// written nor held.
func (o *output) release() {
	c := &o.stdout
	c.quota.Add(c.owner, -c.taken-o.stderr.taken-o.more)
}

// putInto moves the outputs into a result. They still count.
func (o *output) putInto(status *live.ExecStatus) {
	status.Stdout, status.StdoutBytes = o.stdout.text()
	status.Stderr, status.StderrBytes = o.stderr.text()
	status.Truncated = o.stdout.truncated || o.stderr.truncated
	o.stdout.kept, o.stderr.kept = strings.Builder{}, strings.Builder{}
}

func (c *capture) Write(p []byte) (int, error) {
	keep := min(len(p), live.MaxExecOutputBytes-c.kept.Len())
	// What comes after a gap is not the beginning.
	if cost := int64(keep) * outputCost; c.truncated || c.quota.Take(c.owner, cost) != quota.Free {
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
	if utf8.ValidString(kept) && jsonLength(kept) <= outputCost*len(kept) {
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
