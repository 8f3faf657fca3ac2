package kubestream

import (
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Heartbeat says how a client finds out that its server is dead.
type Heartbeat struct {
	// Ping is how often pings are sent. If it is 0, none are, and silence means nothing.
	Ping time.Duration
	// Patience is how long a server may be silent that would send something if it lived.
	Patience time.Duration
	// PeerPings means that the server sends pings unasked, more often than Patience, and
	// expects the same. Any other server is pinged only while it is silent: if it closed
	// its socket with an unread ping in it, its kernel would send a reset, which discards
	// output that is still on its way.
	PeerPings bool
}

// Wire is a connection that measures for how long its peer has been silent.
type Wire struct {
	net.Conn

	born time.Time
	// reading is when the pending Read began, in nanoseconds after born, counted from
	// 1; 0 when none is pending.
	reading atomic.Int64
}

// NewWire measures conn, which must not be read in another way.
func NewWire(conn net.Conn) *Wire { return &Wire{Conn: conn, born: time.Now()} }

func (w *Wire) Read(p []byte) (int, error) {
	w.reading.Store(int64(time.Since(w.born)) + 1)
	defer w.reading.Store(0)
	return w.Conn.Read(p)
}

// NetConn returns the connection that is measured, as in crypto/tls.
func (w *Wire) NetConn() net.Conn { return w.Conn }

// Silence returns for how long this side has been reading while nothing came. It is
// 0 while this side does not read.
func (w *Wire) Silence() time.Duration {
	since := w.reading.Load()
	if since == 0 {
		return 0
	}
	return time.Since(w.born) - time.Duration(since)
}

// Watch checks the peer at every interval until done is closed. It reports whether it
// returned because the peer is dead: the silence is longer than patience, and
// wouldSend says that a living peer would have sent something.
func (w *Wire) Watch(done <-chan struct{}, every, patience time.Duration, wouldSend func() bool) bool {
	ticker := time.NewTicker(max(every, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return false
		case <-ticker.C:
		}
		if w.Silence() > patience && wouldSend() {
			return true
		}
	}
}

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
