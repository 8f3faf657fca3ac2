// Package limits bounds what all users of the live API do at the same time: uses,
// connections through port-forwards, and the memory of their requests.
//
//	uses := limits.NewCounter(l)
//	end, err := uses.Begin(owner, "web")
//	...
//	memory := limits.NewMemory(l)
//	full := memory.Input.Take(owner, 1<<20)
//
// Trade-offs: each process counts its own; several replicas do not add theirs up.
package limits

import (
	"cmp"
	"fmt"

	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// Limits bound what runs at the same time. 0 means no bound, unless said otherwise.
type Limits struct {
	// All three bound uses: commands in any form, sessions, proxied requests, and
	// port-forwards.
	Streams, StreamsPerUser, StreamsPerPool int
	// Both bound the connections through port-forwards.
	Forwards, ForwardsPerUser int
	// NamespaceShare is the part of everything that users share which each namespace
	// has for itself; 0 means DefaultNamespaceShare.
	NamespaceShare float64
	// Memory is how many bytes the process may use; 0 means unboundedMemory.
	Memory int64
}

// DefaultNamespaceShare is what a namespace has for itself.
const DefaultNamespaceShare = 1.0 / 8

// unboundedMemory is the memory for which a process plans that has no limit.
const unboundedMemory = 2 << 30

// bounds returns how many of a kind there may be.
func (l Limits) bounds(all, perUser int) quota.Bounds {
	b := quota.Of(int64(all), cmp.Or(l.NamespaceShare, DefaultNamespaceShare))
	b.User = int64(perUser)
	return b
}

// refuseStream refuses one use more than a bound allows.
func (l Limits) refuseStream(full quota.Full) error {
	if full == quota.OfUser {
		return tooMany("the user has", "uses of connections", l.StreamsPerUser, "--max-streams-per-user")
	}
	return shared(full, "uses of connections", l.Streams, "--max-streams")
}

// shared refuses one more of what is shared by all users.
func shared(full quota.Full, what string, limit int, flag string) error {
	return refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
		"%s have their whole share of the %d %s that the operator's flag %s allows; wait for one to end", full, limit, what, flag))
}

// BeginForward counts one more connection through a port-forward until end is called
// once, or refuses it.
func (c *Counter) BeginForward(owner quota.Owner) (end func(), err error) {
	const what = "connections through port-forwards"
	switch full := c.forwards.Take(owner, 1); full {
	case quota.Free:
		return func() { c.forwards.Add(owner, -1) }, nil
	case quota.OfUser:
		return nil, tooMany("the user has", what, c.limits.ForwardsPerUser, "--max-forwarded-connections-per-user")
	default:
		return nil, shared(full, what, c.limits.Forwards, "--max-forwarded-connections")
	}
}

func tooMany(who, what string, limit int, flag string) error {
	return refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
		"%s %d %s at the same time, which is the limit of the operator's flag %s; wait for one to end", who, limit, what, flag))
}

// Memory is what uses hold in memory, in bytes. The parts, with that of other requests,
// are 7/16 of what the process may use, and the history is 1/64; connections to targets, streams and garbage need
// the rest.
type Memory struct {
	// Input counts what clients have sent: bodies, and what each request holds else.
	Input *quota.Quota
	// Output counts what commands of the JSON form have written, until it is sent.
	Output *quota.Quota
	// Results counts what is remembered for request IDs.
	Results *quota.Quota
}

// NewMemory returns Memory of which nothing is held.
func NewMemory(l Limits) Memory {
	p := l.Parts()
	return Memory{Input: l.shared(p.Input), Output: l.shared(p.Output), Results: l.shared(p.Results)}
}

// Parts are how many bytes of a kind all users together may make the process hold.
type Parts struct {
	// Input, Output and Results are what Memory counts.
	Input, Output, Results int64
	// Requests are requests that are no uses, and History is what has been used.
	Requests, History int64
}

// Planned returns the memory for which the process plans, in bytes.
func (l Limits) Planned() int64 { return cmp.Or(l.Memory, unboundedMemory) }

// Parts returns the parts of the memory.
func (l Limits) Parts() Parts {
	memory := l.Planned()
	return Parts{Input: memory / 16, Output: memory / 4, Results: memory / 16, Requests: memory / 16, History: memory / 64}
}

// Requests returns a quota of the bytes of requests that are no uses.
func (l Limits) Requests() *quota.Quota { return l.shared(l.Parts().Requests) }

// shared returns a quota of bytes that the namespaces share.
func (l Limits) shared(bytes int64) *quota.Quota {
	return quota.New(quota.Of(bytes, cmp.Or(l.NamespaceShare, DefaultNamespaceShare)))
}
