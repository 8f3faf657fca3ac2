package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// side is the client's end of a forwarded connection.
type side struct {
	// in fails, and does not end, when the client has given up the connection.
	in  io.Reader
	out io.Writer
	// failed tells the client why the connection to the target failed.
	failed func(error)
	// ended tells the client that the target sends no more.
	ended func()
}

// join moves bytes in both directions until both have ended, or ctx has. It closes
// target.
func join(ctx context.Context, client side, target net.Conn) {
	defer target.Close()
	defer context.AfterFunc(ctx, func() { _ = target.Close() })()
	var workers sync.WaitGroup
	workers.Go(func() {
		err := move(target, client.in)
		half, ok := target.(driver.HalfCloser)
		if err != nil || !ok {
			_ = target.Close()
			return
		}
		_ = half.CloseWrite()
	})
	if err := move(client.out, target); err != nil {
		if explained, ok := errors.AsType[*driver.Error](err); ok { // some targets refuse a connection only when it is read
			client.failed(explained)
		}
		_ = target.Close()
	}
	client.ended()
	workers.Wait()
}

// dialError is the message to a client about a port that cannot be reached.
func dialError(err error) string {
	return driver.Sanitize(driver.AsError(err).Message)
}
