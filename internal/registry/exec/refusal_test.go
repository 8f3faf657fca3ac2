package exec

import (
	"context"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// secondLease plays pools that refuse another lease to a command whose server has
// refused a channel on the first.
type secondLease struct {
	use.Pools

	refuse *driver.Error
}

func (p secondLease) ExecOn(
	_ context.Context, lease poolset.Lease, _ poolset.Request, _ driver.Command, _ driver.Streams,
) (poolset.Execution, error) {
	lease.Release()
	return poolset.Execution{}, p.refuse
}

func TestARefusedSecondLeaseIsWordedLikeTheFirst(t *testing.T) {
	for name, test := range map[string]struct {
		refuse          driver.Error
		outcome         live.Outcome
		reason, message string
	}{
		"the queue is full": {
			driver.Error{Message: "connpool: full", Err: connpool.ErrQueueFull},
			live.OutcomeNotStarted, "PoolExhausted",
			"the command was not started: too many requests wait for pool web already; try again later, or raise its acquire.maxPending, which is 100, to the number of requests that come at once, or its size.max, which is 4, to 8",
		},
		"the pool is paused": {
			driver.Error{Message: "connpool: paused", Err: connpool.ErrPaused},
			live.OutcomeNotStarted, "Paused",
			"the command was not started: pool web is paused; set its state to Active",
		},
		"the caller left": {
			driver.Error{Message: "context canceled", Err: context.Canceled},
			live.OutcomeNotStarted, "",
			"the command was not started: pool web gave no connection before the request or the pool ended; try again",
		},
		"the target is down": {
			driver.Error{Reason: driver.Unreachable, Message: "connection refused", Err: connpool.ErrDialPending},
			live.OutcomeNotStarted, "Unreachable",
			"the command was not started: connection refused",
		},
		"it may have run": {
			driver.Error{Started: true, Message: "reset", Err: connpool.ErrQueueFull},
			live.OutcomeUnknown, "",
			"the command of request id may have run, and its outcome is not known: reset",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				got := f.Post(f.Context(), "web", registrytest.Identified("id", "true"))
				got.WantOutcome(f, test.outcome)
				if status := got.Exec.Status; status.Reason != test.reason || status.Message != test.message {
					t.Errorf("%s: %s", status.Reason, status.Message)
				}
			}, func(c *use.Config) { c.Pools = secondLease{c.Pools, &test.refuse} })
		})
	}
}
