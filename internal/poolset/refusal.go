package poolset

import (
	"context"
	"errors"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// refusals are the errors of Acquire that no remote is to blame for, in a user's
// words and with the next step. The first that matches counts.
var refusals = []struct {
	err     error
	reason  driver.Reason
	message string
}{
	{ErrUnknownPool, "", "there is no such pool, or none of its targets can be used; look at the status of the pool"},
	{ErrUnknownTarget, "", "the pool has no such target, or it cannot be used; look at the status of the target"},
	{ErrTargetRequired, "", "the pool may have several targets; name one, or set its routing to LeastLoaded"},
	{connpool.ErrPaused, "", "the pool is paused; set its state to Active"},
	{connpool.ErrClosed, "", "the pool gives the target up just now; try again"},
	{
		connpool.ErrQueueFull, driver.PoolExhausted,
		"too many requests wait for the pool already; try again later, or raise its acquire.maxPending or size.max",
	},
	{
		connpool.ErrExhausted, driver.PoolExhausted,
		"every session of the pool is in use and none became free in time; try again later, or raise its size.max",
	},
	{connpool.ErrDialPending, driver.Timeout, "the target is still being dialed; try again"},
	{context.DeadlineExceeded, driver.Timeout, "the request ended before a connection was free"},
	{context.Canceled, "", "the request was withdrawn before a connection was free"},
}

// notStarted marks an error of Acquire as proof that nothing ran, and keeps what
// it wraps. The failure of a dial stays classified as it was.
func notStarted(err error) error {
	if classified, ok := errors.AsType[*driver.Error](err); ok {
		failure := *classified
		failure.Started, failure.Err = false, err
		return &failure
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal.err) {
			return &driver.Error{Reason: refusal.reason, Message: refusal.message, Err: err}
		}
	}
	return driver.AsError(err)
}
