package stream

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// side is the client's end of a forwarded connection.
type side struct {
	// in fails, and does not end, when the client has given up the connection.
	in  io.Reader
	out io.Writer
	// problems tells the client why the connection to the target failed.
	problems io.Writer
	// ended tells the client that the target sends no more.
	ended func()
}

// connect dials, and moves bytes in both directions until both have ended, or ctx has.
func (s side) connect(ctx context.Context, dial DialFunc, port uint16) {
	target, err := dial(ctx, port)
	if err != nil {
		s.fail(err)
		return
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() { _ = target.Close() })()
	var workers sync.WaitGroup
	workers.Go(func() {
		err := move(target, s.in)
		half, ok := target.(driver.HalfCloser)
		if err != nil || !ok {
			_ = target.Close()
			return
		}
		_ = half.CloseWrite()
	})
	if err := move(s.out, target); err != nil {
		if explained, ok := errors.AsType[*driver.Error](err); ok { // some targets refuse a connection only when it is read
			s.fail(explained)
		}
		_ = target.Close()
	}
	s.ended()
	workers.Wait()
}

// fail tells the client why its port cannot be reached.
func (s side) fail(err error) {
	_, _ = io.WriteString(s.problems, driver.Sanitize(driver.AsError(err).Message))
}
