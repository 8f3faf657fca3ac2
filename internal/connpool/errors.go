package connpool

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrClosed means that the pool is draining or closed.
	ErrClosed = errors.New("connpool: pool is closed")
	// ErrPaused means that Limits.Paused is set.
	ErrPaused = errors.New("connpool: pool is paused")
	// ErrExhausted means that every slot is leased. It matches both ErrQueueFull
	// and ErrAcquireTimeout.
	ErrExhausted = errors.New("connpool: pool is exhausted")
	// ErrQueueFull means that Limits.MaxPending callers wait already.
	ErrQueueFull = fmt.Errorf("%w: too many callers wait already", ErrExhausted)
	// ErrGaveWay means that Limits.MaxPending callers waited, most of them for the user of
	// this one, and that a caller of another user came. It matches ErrQueueFull.
	ErrGaveWay = fmt.Errorf("%w, and another user came", ErrQueueFull)
	// ErrAcquireTimeout means that no slot became free in Limits.AcquireTimeout.
	ErrAcquireTimeout = fmt.Errorf("%w: no slot became free in time", ErrExhausted)
	// ErrDialPending is inside a DownError when the acquire timeout passed
	// before the first dial ended.
	ErrDialPending = errors.New("connpool: still dialing")
)

// DownError means that no connection is alive and that the last dial failed.
type DownError struct {
	// Err is why the last dial failed.
	Err error
	// Until is when the next dial is due; zero when one is running.
	Until time.Time
	// Parked reports whether dialing was stopped rather than backed off.
	Parked bool
}

// Error returns the message of the inner cause.
func (e *DownError) Error() string { return "connpool: target is down: " + e.Err.Error() }

// Unwrap returns the inner cause.
func (e *DownError) Unwrap() error { return e.Err }
