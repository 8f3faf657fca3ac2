package registry

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

	exchange *exchange
	ctx      context.Context //nolint:containedctx // of the exchange, which it belongs to
}

// Unwrap lets http.ResponseController find what is inside.
func (s *switchable) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack implements http.Hijacker. The connection ends with the exchange, and
// begins with what the client has sent ahead of the answer.
func (s *switchable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	s.exchange.switched = true
	ahead, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	taken := &switchedConn{Conn: conn, ahead: slices.Clone(ahead), exchange: s.exchange}
	context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	return taken, buffers, nil
}

// switchedConn is the client's end of an upgraded connection.
type switchedConn struct {
	net.Conn

	// ahead is what was read before the upgrade; only Read touches it.
	ahead    []byte
	exchange *exchange
	half     sync.Once
}

// Read implements net.Conn.
func (c *switchedConn) Read(p []byte) (n int, err error) {
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		c.ahead = c.ahead[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.exchange.bytes.in.Add(int64(n))
	if errors.Is(err, io.EOF) {
		c.half.Do(c.awaitLeave)
	}
	return n, err
}

// awaitLeave ends the exchange when the client goes. One that has ended its half
// with a word of TLS is still there and reads; when its connection ends below
// that, too, nobody does. Nothing else would tell, since nobody reads from it any
// more.
func (c *switchedConn) awaitLeave() {
	secured, ok := c.Conn.(interface{ NetConn() net.Conn })
	if !ok {
		return
	}
	go func() {
		_, _ = secured.NetConn().Read(make([]byte, 1))
		c.exchange.leave(stream.ErrClientGone)
	}()
}

// Write implements net.Conn.
func (c *switchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.exchange.bytes.out.Add(int64(n))
	return n, err
}

var errNoHalf = errors.New("the connection cannot end one direction only")

// CloseWrite ends one direction. Its error ends both.
func (c *switchedConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errNoHalf
	}
	return half.CloseWrite()
}
