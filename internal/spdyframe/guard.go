package spdyframe

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// errForeign means that the server began what only clients begin in a port-forward.
var errForeign = errors.New("the server sent a SPDY frame that port-forwards do not have")

// Guard is the transport that the SPDY library uses on a client's side. It closes the
// connection below when the server sends what could harm the library: frames that are
// too long or malformed, and streams or headers of its own, which port-forwards do not
// have. The library would start a goroutine for each stream that it refuses, and unfold
// headers that nothing reads.
type Guard struct {
	net.Conn

	cursor Cursor
	// window is how much data may wait for its readers; 0 means that it does not count.
	window int64
	// held counts the bytes of data that were read from below and not by the readers of
	// streams. taken is told when it shrinks.
	held  atomic.Int64
	taken chan struct{}
	done  <-chan struct{}
}

// NewGuard returns a Guard of the connection below, until whose end done is open. With a
// window, it reads no more from below while that much data waits: then every stream must
// be read through Counted. The library's own queues hold fifty frames of each stream.
func NewGuard(below net.Conn, window int64, done <-chan struct{}) *Guard {
	return &Guard{Conn: below, window: window, taken: make(chan struct{}, 1), done: done}
}

func (g *Guard) Read(p []byte) (int, error) {
	for g.window > 0 && g.held.Load() > g.window {
		select {
		case <-g.taken:
		case <-g.done:
			return 0, net.ErrClosed
		}
	}
	n, err := g.Conn.Read(p)
	if err := g.cursor.Advance(p[:n], g.inspect); err != nil {
		_ = g.Close()
		return 0, err
	}
	return n, err
}

// inspect checks a frame of the server. The client's streams have odd numbers.
func (g *Guard) inspect(frame Frame) error {
	switch frame.Kind {
	case SynStream, Headers:
		return errForeign
	case Data:
		if frame.Word%2 == 0 {
			return errForeign
		}
		g.held.Add(int64(frame.Length))
	case SynReply, RstStream, Settings, Ping, GoAway, WindowUpdate:
	}
	return nil
}

// Held returns how many bytes of data wait for their readers.
func (g *Guard) Held() int64 { return g.held.Load() }

// Counted returns a reader of a stream that makes room in the window.
func (g *Guard) Counted(stream io.Reader) io.Reader { return counted{stream, g} }

type counted struct {
	stream io.Reader
	guard  *Guard
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.stream.Read(p)
	c.guard.held.Add(-int64(n))
	select {
	case c.guard.taken <- struct{}{}:
	default:
	}
	return n, err
}
