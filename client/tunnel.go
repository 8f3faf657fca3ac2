package client

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var _ net.Conn = (*tunnel)(nil)

// tunnel is a byte stream in the binary messages of a WebSocket. One goroutine
// reads and one writes.
type tunnel struct {
	*websocket.Conn

	heartbeat *heartbeat
	message   io.Reader
	// done ends the heartbeat.
	done  chan struct{}
	close sync.Once
}

func newTunnel(conn *websocket.Conn) *tunnel {
	t := &tunnel{Conn: conn, heartbeat: newHeartbeat(conn), done: make(chan struct{})}
	go t.heartbeat.run(t.done)
	return t
}

// Close ends the tunnel at once.
func (t *tunnel) Close() error {
	t.close.Do(func() { close(t.done) })
	return t.Conn.Close()
}

// Read reads on across messages.
func (t *tunnel) Read(p []byte) (int, error) {
	for {
		if err := t.heartbeat.heard(); err != nil {
			return 0, err
		}
		if t.message == nil {
			_, message, err := t.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			t.message = message
		}
		n, err := t.message.Read(p)
		if errors.Is(err, io.EOF) {
			t.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends one message.
func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline sets both deadlines.
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}
