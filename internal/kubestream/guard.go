package kubestream

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/connpool/connpool/internal/spdyframe"
)

// window is how much data of the server may wait for the reader of the only connection
// of a socket. The connections of other forwarders wait in the library's queues, which
// hold up to fifty frames.
const window = 128 << 10

var errForeignStream = errors.New("the server sent a SPDY frame that port-forwards do not have")

// guard is the transport that the SPDY library uses. It ends the tunnel when the server
// sends what could harm the library: frames that are too long or malformed, and streams
// or headers of its own, which port-forwards do not have. The library would start a
// goroutine for each stream that it refuses, and unfold headers that nothing reads.
type guard struct {
	*tunnel

	cursor spdyframe.Cursor
	// bounded means that data is held back beyond the window.
	bounded bool
	// held counts the bytes of data that were read from the tunnel and not by the
	// connection. taken is told when it shrinks.
	held  atomic.Int64
	taken chan struct{}
}

func newGuard(below *tunnel, bounded bool) *guard {
	return &guard{tunnel: below, bounded: bounded, taken: make(chan struct{}, 1)}
}

func (g *guard) Read(p []byte) (int, error) {
	for g.bounded && g.held.Load() > window {
		select {
		case <-g.taken:
		case <-g.socket.done:
			return 0, net.ErrClosed
		}
	}
	n, err := g.tunnel.Read(p)
	if err := g.cursor.Advance(p[:n], g.inspect); err != nil {
		g.socket.Cut()
		return 0, err
	}
	return n, err
}

// inspect checks a frame of the server. The client's streams have odd numbers.
func (g *guard) inspect(frame spdyframe.Frame) error {
	switch frame.Kind {
	case spdyframe.SynStream, spdyframe.Headers:
		return errForeignStream
	case spdyframe.Data:
		if frame.Word%2 == 0 {
			return errForeignStream
		}
		g.held.Add(int64(frame.Length))
	case spdyframe.SynReply, spdyframe.RstStream, spdyframe.Settings, spdyframe.Ping, spdyframe.GoAway, spdyframe.WindowUpdate:
	}
	return nil
}

// took is told that the connection has read so much data.
func (g *guard) took(n int) {
	g.held.Add(-int64(n))
	select {
	case g.taken <- struct{}{}:
	default:
	}
}
