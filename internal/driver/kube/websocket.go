package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// frameBytes is how much of a stream goes into one message.
	frameBytes = 32 << 10
	// maxMessageBytes bounds a message of the server, which sends a few dozen KiB.
	maxMessageBytes = 1 << 20
)

// writeBuffers are borrowed by WebSockets for a message at a time.
var writeBuffers sync.Pool

// webSocket is an upgraded socket that knows whether its other end lives. One
// goroutine reads, and those who write take turns.
type webSocket struct {
	*websocket.Conn

	keepalive keepaliveTimes
	sending   sync.Mutex
	pongs     chan string
	done      chan struct{} // ends the pings
	close     sync.Once

	// begun and written count our messages, before and after each; confirmed is
	// how many the other side has taken, as far as it said. One that does not take
	// them answers no ping either, and need not be dead.
	begun, written, confirmed atomic.Int64
	// silent is since when nothing came, in nanoseconds; 0 while nobody listens.
	silent atomic.Int64
	// lost tells that we ended it, because it was silent for too long.
	lost atomic.Bool
}

// upgrade makes a WebSocket of a socket, or returns the answer of a server that
// does not want to. An error's Started tells whether the request was written.
func (c *conn) upgrade(ctx context.Context, path string, query url.Values, protocol string) (*webSocket, *answer, *driver.Error) {
	address, err := c.client.config.url(path, query.Encode())
	if err != nil {
		return nil, nil, notStarted(driver.ProtocolError, driver.StageStart, "the request makes no URL; correct the names in it")
	}
	address.Scheme = "wss"
	socket, failed := c.socket(ctx)
	if failed != nil {
		return nil, nil, failed
	}
	ctx, cancel := context.WithTimeout(ctx, c.client.options.StageTimeout)
	defer cancel()
	opened, response, err := shakeHands(ctx, socket, address, c.upgradeHeader(protocol))
	switch {
	case err == nil && opened.Subprotocol() == protocol:
		return newWebSocket(opened, c.client.config.keepalive), nil, nil
	case err == nil:
		_ = opened.Close()
		result := notStarted(driver.ProtocolError, driver.StageStart,
			"the cluster does not speak %s; it needs Kubernetes 1.31 or newer", protocol)
		result.Started = true
		return nil, nil, result
	case response != nil && response.status != http.StatusSwitchingProtocols:
		return nil, response, nil
	}
	result := transportError(err, driver.StageStart, c.client.config.address)
	result.Started = true
	return nil, nil, result
}

func (c *conn) upgradeHeader(protocol string) http.Header {
	header := http.Header{"User-Agent": {userAgent}}
	c.client.config.authenticate(header)
	header.Set("Sec-WebSocket-Protocol", protocol)
	return header
}

// shakeHands upgrades on a socket that is there already, and closes it if that
// fails.
func shakeHands(ctx context.Context, socket *socket, address *url.URL, header http.Header) (*websocket.Conn, *answer, error) {
	deadline := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(past) })
	defer deadline()
	dialer := websocket.Dialer{
		NetDialTLSContext: func(context.Context, string, string) (net.Conn, error) { return socket, nil },
		ReadBufferSize:    frameBytes, WriteBufferSize: frameBytes + 1, WriteBufferPool: &writeBuffers,
		Subprotocols: header.Values("Sec-WebSocket-Protocol"),
	}
	header.Del("Sec-WebSocket-Protocol")
	socket.left = maxHeaderBytes
	opened, response, err := dialer.DialContext(context.WithoutCancel(ctx), address.String(), header) //nolint:bodyclose // it is in memory
	socket.left = -1
	if err == nil && deadline() {
		return opened, nil, nil
	}
	socket.hangUp()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if !errors.Is(err, websocket.ErrBadHandshake) {
		return nil, nil, err
	}
	body := make([]byte, maxAnswerBytes)
	n, _ := response.Body.Read(body)
	return nil, &answer{status: response.StatusCode, header: response.Header, body: body[:n]}, err
}

func newWebSocket(conn *websocket.Conn, keepalive keepaliveTimes) *webSocket {
	w := &webSocket{Conn: conn, keepalive: keepalive, pongs: make(chan string, 1), done: make(chan struct{})}
	conn.SetReadLimit(maxMessageBytes)
	conn.SetPingHandler(func(payload string) error {
		w.heard()
		select {
		case w.pongs <- payload:
		default: // an answer that waits for its turn is enough
		}
		return nil
	})
	conn.SetPongHandler(func(payload string) error {
		w.heard()
		if count, err := strconv.ParseInt(payload, 10, 64); err == nil {
			w.confirmed.Store(count)
		}
		return nil
	})
	go w.beat()
	return w
}

// beat answers the server's pings, and sends some when nothing comes: not while
// output does, for a server that ends with something unread in its socket resets
// it, and takes back what was on its way. They wait for their turn as long as it
// takes, since a deadline that passed in the middle of one would spoil the
// connection; so it is a timer that judges.
func (w *webSocket) beat() {
	var tick <-chan time.Time
	if w.keepalive.interval > 0 {
		ticker := time.NewTicker(max(w.keepalive.interval/2, time.Millisecond))
		defer ticker.Stop()
		tick = ticker.C
		judge := w.judgeEvery(w.keepalive.interval / 2)
		defer judge.Stop()
	}
	for {
		var err error
		select {
		case <-w.done:
			return
		case payload := <-w.pongs:
			err = w.WriteControl(websocket.PongMessage, []byte(payload), time.Time{})
		case <-tick:
			if !w.silentFor(w.keepalive.interval / 2) {
				continue
			}
			payload := strconv.AppendInt(nil, w.written.Load(), 10)
			err = w.WriteControl(websocket.PingMessage, payload, time.Time{})
		}
		if err != nil {
			return
		}
	}
}

// judgeEvery ends a connection that is silent though it has taken all we sent.
func (w *webSocket) judgeEvery(period time.Duration) *time.Timer {
	var timer *time.Timer
	var set sync.Mutex
	set.Lock()
	defer set.Unlock()
	timer = time.AfterFunc(period, func() {
		select {
		case <-w.done:
			return
		default:
		}
		took := w.begun.Load() == w.confirmed.Load()
		if took && w.silentFor(w.keepalive.interval+w.keepalive.timeout) {
			w.lost.Store(true)
			w.hangUp()
			return
		}
		set.Lock()
		defer set.Unlock()
		timer.Reset(period)
	})
	return timer
}

// listen is called before reading, heard at a sign of life, and deafen when what
// was read is dealt with: meanwhile we would not notice one.
func (w *webSocket) listen() { w.silent.Store(time.Now().UnixNano()) }
func (w *webSocket) heard()  { w.silent.Store(time.Now().UnixNano()) }
func (w *webSocket) deafen() { w.silent.Store(0) }

// silentFor reports that we have listened for so long, and nothing came.
func (w *webSocket) silentFor(period time.Duration) bool {
	since := w.silent.Load()
	return since > 0 && time.Since(time.Unix(0, since)) > period
}

// send writes one message.
func (w *webSocket) send(message []byte) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	w.begun.Add(1)
	defer w.written.Add(1)
	return w.WriteMessage(websocket.BinaryMessage, message)
}

// hangUp ends the connection at once. It does not wait for a TLS goodbye.
func (w *webSocket) hangUp() {
	w.close.Do(func() { close(w.done) })
	if secured, ok := w.NetConn().(interface{ NetConn() net.Conn }); ok {
		_ = secured.NetConn().Close()
	}
	_ = w.Close()
}

// goodbye ends it properly, if that is possible at once.
func (w *webSocket) goodbye() {
	message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = w.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
	w.hangUp()
}
