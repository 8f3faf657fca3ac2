package kubestream

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Pinger sends the pings of one side of a WebSocket, and the answers to those of
// the other side. Each waits for its turn as long as it takes: a deadline that
// passed in the middle of a message would spoil the connection.
type Pinger struct {
	conn *websocket.Conn
	// pongs holds one answer that waits for its turn, which is enough.
	pongs chan string
	// pinged is set by the first ping of the peer.
	pinged atomic.Bool
	// answered is the number in the last ping that the peer has answered.
	answered atomic.Int64
}

// NewPinger takes over the handling of pings and their answers. Both arrive only
// while the connection is being read.
func NewPinger(conn *websocket.Conn) *Pinger {
	p := &Pinger{conn: conn, pongs: make(chan string, 1)}
	conn.SetPingHandler(func(payload string) error {
		p.pinged.Store(true)
		select {
		case p.pongs <- payload:
		default:
		}
		return nil
	})
	conn.SetPongHandler(func(payload string) error {
		if number, err := strconv.ParseInt(payload, 10, 64); err == nil {
			p.answered.Store(number)
		}
		return nil
	})
	return p
}

// PeerPings reports whether the peer sends pings unasked.
func (p *Pinger) PeerPings() bool { return p.pinged.Load() }

// Run sends what due returns every so often, and the answers to the peer's pings,
// until done or until a message cannot be sent. It sends no pings if every is 0.
func (p *Pinger) Run(done <-chan struct{}, every time.Duration, due func() (number int64, yes bool)) error {
	var tick <-chan time.Time
	if every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		var err error
		select {
		case <-done:
			return nil
		case payload := <-p.pongs:
			err = p.conn.WriteControl(websocket.PongMessage, []byte(payload), time.Time{})
		case <-tick:
			if number, yes := due(); yes {
				err = p.conn.WriteControl(websocket.PingMessage, strconv.AppendInt(nil, number, 10), time.Time{})
			}
		}
		if err != nil {
			return err
		}
	}
}
