package reach

import (
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// Refusal is an error that is remembered until a time. The zero value refuses
// nothing.
type Refusal struct {
	err   *driver.Error
	until time.Time
}

// RefuseFor remembers err for a while.
func RefuseFor(err *driver.Error, wait time.Duration) Refusal {
	return Refusal{err: err, until: time.Now().Add(wait)}
}

// Holds reports whether the error is still remembered.
func (r Refusal) Holds() bool { return r.err != nil && time.Now().Before(r.until) }

// Left returns a copy of the error whose RetryAfter is the time that is left.
func (r Refusal) Left() *driver.Error {
	left := *r.err
	left.RetryAfter = max(0, time.Until(r.until))
	return &left
}
