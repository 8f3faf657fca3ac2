package client

import (
	"time"

	"github.com/gorilla/websocket"
)

const (
	// pingPeriod is how often the server is told that we live.
	pingPeriod = 5 * time.Second
	// silence is how long nothing may come before the connection counts as lost.
	// Both sides send pings, also while data is stuck.
	silence = 30 * time.Second
)

// heartbeat keeps a WebSocket alive, and notices when the other side is not. Its
// messages wait for their turn as long as it takes: a deadline that passed in the
// middle of one would spoil the connection.
type heartbeat struct {
	conn  *websocket.Conn
	pongs chan string
}

func newHeartbeat(conn *websocket.Conn) *heartbeat {
	h := &heartbeat{conn: conn, pongs: make(chan string, 1)}
	conn.SetPongHandler(func(string) error { return h.heard() })
	conn.SetPingHandler(func(payload string) error {
		select {
		case h.pongs <- payload:
		default: // An answer that waits for its turn is enough.
		}
		return h.heard()
	})
	return h
}

// heard is called before reading, since we may have been too busy to listen, and
// when there is a sign of life.
func (h *heartbeat) heard() error { return h.conn.SetReadDeadline(time.Now().Add(silence)) }

// run sends pings and answers those of the server until done, or until the
// connection is gone.
func (h *heartbeat) run(done <-chan struct{}) {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-done:
			return
		case payload := <-h.pongs:
			err = h.conn.WriteControl(websocket.PongMessage, []byte(payload), time.Time{})
		case <-ticker.C:
			err = h.conn.WriteControl(websocket.PingMessage, nil, time.Time{})
		}
		if err != nil {
			return
		}
	}
}
