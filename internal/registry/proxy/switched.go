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

	"github.com/connpool/connpool/internal/stream"
)

// switchable is a response whose connection can become that of another protocol.
type switchable struct {
	http.ResponseWriter

	request *proxiedRequest
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
	taken := &clientEnd{Conn: conn, ahead: slices.Clone(ahead), request: s.request}
	s.request.switched = taken
	context.AfterFunc(s.request.ctx, taken.finish)
	return taken, buffers, nil
}

// clientEnd is the client's end of an upgraded connection.
type clientEnd struct {
	net.Conn

	// ahead is what was read before the upgrade; only Read touches it.
	ahead   []byte
	request *proxiedRequest
	half    sync.Once
}

// Read implements net.Conn.
func (c *clientEnd) Read(p []byte) (n int, err error) {
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		c.ahead = c.ahead[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.request.bytes.In.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		c.half.Do(c.awaitLeave)
	case err != nil:
		c.request.end(stream.ErrClientGone)
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
		c.request.end(stream.ErrClientGone)
	}()
}

// Write implements net.Conn.
func (c *clientEnd) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.request.bytes.Out.Add(int64(n))
	if err != nil {
		c.request.end(stream.ErrClientGone)
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
	if hasLeft(context.Cause(c.request.ctx)) {
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

	request *proxiedRequest
}

// Read implements io.Reader. A target that vanishes ends the request before the
// client can take that for the end of the output.
func (e *targetEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.request.vanish(endedEarly(err))
	}
	return n, err
}

// CloseWrite ends one direction. Its error ends both.
func (e *targetEnd) CloseWrite() error { return closeWrite(e.ReadWriteCloser) }
