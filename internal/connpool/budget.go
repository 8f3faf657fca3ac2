package connpool

import "context"

// Budget bounds the dials that run at once in a process, to one host and
// through one bastion. It is shared by pools.
type Budget struct{}

// NewBudget makes a budget of so many dials at once for the process, each host
// and each bastion.
func NewBudget(process, perHost, perBastion int) *Budget { panic("not built yet") }

// Admit waits for its turn to dial hostKey, through bastionKey unless that is
// empty, and returns what gives the place back. Turns are first come, first
// served within a host and go round between hosts, so that the callers of one
// host do not block another's. The error is that of ctx.
func (b *Budget) Admit(ctx context.Context, hostKey, bastionKey string) (done func(), err error) {
	panic("not built yet")
}
