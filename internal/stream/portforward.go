package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// halfCloser is a connection that can end one direction; TCP, TLS, unix sockets
// and SSH channels can.
type halfCloser interface{ CloseWrite() error }

// side is the client's end of a forwarded connection.
type side struct {
	// in fails, instead of ending, when the client gave the connection up.
	in  io.Reader
	out io.Writer
	// failed tells the client why the target was not what it seemed to be.
	failed func(error)
	// ended tells the client that the target sends no more.
	ended func()
}

// join moves bytes both ways until both directions have ended, or ctx has. It
// closes target.
func join(ctx context.Context, client side, target net.Conn) {
	defer target.Close()
	defer context.AfterFunc(ctx, func() { _ = target.Close() })()
	var workers sync.WaitGroup
	workers.Go(func() {
		err := move(target, client.in)
		half, ok := target.(halfCloser)
		if err != nil || !ok {
			_ = target.Close()
			return
		}
		_ = half.CloseWrite()
	})
	if err := move(client.out, target); err != nil {
		if explained, ok := errors.AsType[*driver.Error](err); ok { // some targets refuse only then
			client.failed(explained)
		}
		_ = target.Close()
	}
	client.ended()
	workers.Wait()
}

// dialError is what the client reads about a port that cannot be reached.
func dialError(err error) string {
	return driver.Sanitize(driver.AsError(err).Message)
}
