package exec

import (
	"github.com/connpool/connpool/internal/registry/idempotency"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// maxExecBytes bounds the encoded Exec object: its stdin grows by a third.
const maxExecBytes = 2 << 20

// Bounds of what the commands of the JSON form hold in memory, all together and those
// of one user. They apply to the input, which is in Exec objects that are read or
// used, and to the output. 2,000 of the longest would be more than the memory that the
// operator is usually given.
const (
	maxBytes     = 128 << 20
	maxUserBytes = 64 << 20
)

// Commands runs commands within common bounds. It is safe for concurrent use.
type Commands struct {
	// input and output are what commands of the JSON form hold in memory.
	input, output *quota.Quota
	results       *idempotency.Results
}

// NewCommands returns Commands that have run nothing yet.
func NewCommands() *Commands {
	return &Commands{
		input: quota.New(maxBytes, maxUserBytes), output: quota.New(maxBytes, maxUserBytes),
		results: idempotency.New(),
	}
}

// holdBody counts the body of a request until release is called once. A body of
// unknown length counts like the longest.
func (c *Commands) holdBody(user string, length int64) (release func(), err error) {
	if length < 0 || length > maxExecBytes {
		length = maxExecBytes
	}
	if !c.input.Take(user, length) {
		return nil, refusal.NotStarted(refusal.TooManyRequests, "", "the operator holds too much input of other commands; "+
			"try again later, or stream the input, with an upgrade to WebSocket or SPDY")
	}
	return func() { c.input.Add(user, -length) }, nil
}
