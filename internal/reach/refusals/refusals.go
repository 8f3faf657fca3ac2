// Package refusals remembers which dials are refused for now: by the breaker of an access
// version, and by the throttle of a server.
package refusals

import (
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// refusal is an error that is remembered until a time. The zero value refuses
// nothing.
type refusal struct {
	err   *driver.Error
	until time.Time
}

// holds reports whether the error is still remembered.
func (r refusal) holds() bool { return r.err != nil && time.Now().Before(r.until) }

// left is Left of the error.
func (r refusal) left() *driver.Error { return Left(r.err, r.until) }

// Left returns a copy of the error whose RetryAfter is the time that is left.
func Left(err *driver.Error, until time.Time) *driver.Error {
	left := *err
	left.RetryAfter = max(0, time.Until(until))
	return &left
}
