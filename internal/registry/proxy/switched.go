package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/stream"
)

// lifetime is how long a request lasts, and what it has moved by now.
type lifetime struct {
	// ctx ends with the request. end ends it for a cause, of which the first counts.
	ctx   context.Context //nolint:containedctx // a proxied request is as short as a call
	end   context.CancelCauseFunc
	bytes use.Traffic
	// switched is the client's end of the connection if that has become one of another
	// protocol.
	switched *clientEnd
}

// vanish ends a request whose connection speaks another protocol, unless it has
// ended already.
func (l *lifetime) vanish(cause error) {
	l.end(cause)
	if l.switched != nil {
		l.switched.finish()
	}
}

// hasLeft reports whether a request has ended because its client has seen enough.
func hasLeft(cause error) bool {
	return errors.Is(cause, context.Canceled) || errors.Is(cause, stream.ErrClientGone)
}

func endedEarly(err error) error {
	return &driver.Error{
		Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "the answer ended early", Err: err,
	}
}

// switchable is a response whose connection can become that of another protocol.
type switchable struct {
	http.ResponseWriter

	life *lifetime
}

// Unwrap lets http.ResponseController find what is inside.
func (s *switchable) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack implements http.Hijacker. The connection ends with the request, and begins
// with what the client has sent ahead of the answer.
func (s *switchable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	taken := &clientEnd{Conn: conn, ahead: slices.Clone(ahead), life: s.life}
	s.life.switched = taken
	context.AfterFunc(s.life.ctx, taken.finish)
	return taken, buffers, nil
}

// clientEnd is the client's end of an upgraded connection.
type clientEnd struct {
	net.Conn

	// ahead is what was read before the upgrade; only Read touches it.
	ahead []byte
	life  *lifetime
	half  sync.Once
}

func (c *clientEnd) Read(p []byte) (n int, err error) {
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		c.ahead = c.ahead[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.life.bytes.In.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		c.half.Do(c.awaitLeave)
	case err != nil:
		c.life.end(stream.ErrClientGone)
	}
	return n, err
}

// awaitLeave ends the request when the client leaves after it has ended its half. With
// the close_notify of TLS a client ends its half only, and still reads; when the
// connection below TLS ends, too, the client has left. Only this read notices that,
// because the proxy does not read from the client any more.
func (c *clientEnd) awaitLeave() {
	secured, ok := c.Conn.(interface{ NetConn() net.Conn })
	if !ok {
		return
	}
	go func() {
		_, _ = secured.NetConn().Read(make([]byte, 1))
		c.life.end(stream.ErrClientGone)
	}()
}

func (c *clientEnd) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.life.bytes.Out.Add(int64(n))
	if err != nil {
		c.life.end(stream.ErrClientGone)
	}
	return n, err
}

var errNoHalf = errors.New("the connection cannot end one direction only")

// CloseWrite ends one direction. Its error ends both.
func (c *clientEnd) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(end any) error {
	half, ok := end.(interface{ CloseWrite() error })
	if !ok {
		return errNoHalf
	}
	return half.CloseWrite()
}

// finish ends the connection with its request. If the request was cut, the connection
// is reset: an orderly end would look like the end of the output.
func (c *clientEnd) finish() {
	if hasLeft(context.Cause(c.life.ctx)) {
		_ = c.Close()
		return
	}
	under := c.Conn
	if secured, ok := under.(interface{ NetConn() net.Conn }); ok {
		under = secured.NetConn()
	}
	if tcp, ok := under.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = under.Close()
}

// targetEnd is the target's end of an upgraded connection.
type targetEnd struct {
	io.ReadWriteCloser

	life *lifetime
}

// Read implements io.Reader. A target that vanishes ends the request before the
// client can take that for the end of the output.
func (e *targetEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.life.vanish(endedEarly(err))
	}
	return n, err
}

// CloseWrite ends one direction. Its error ends both.
func (e *targetEnd) CloseWrite() error { return closeWrite(e.ReadWriteCloser) }
