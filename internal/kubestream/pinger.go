package kubestream

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Pinger sends the pings of one side of a WebSocket, and its answers to the pings of the
// other side. It has no write deadline, because one that passes in the middle of a
// message spoils the connection.
type Pinger struct {
	conn *websocket.Conn
	// pongs holds one answer that waits for its turn, which is enough.
	pongs chan string
	// pinged means that the peer has sent a ping.
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

// Run sends answers to the peer's pings. At every interval it also sends a ping with
// the number that due returns, unless due reports that no ping is due. If every is 0, it
// sends no pings. Run returns when done is closed, or with the error of a message that
// cannot be sent.
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
