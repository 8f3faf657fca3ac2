package kubestream

import (
	"net"
	"sync/atomic"
	"time"
)

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

// Read implements net.Conn.
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

// closeAtOnce closes the connection below TLS, because the end of TLS can take seconds.
func closeAtOnce(conn net.Conn) {
	for {
		layer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			_ = conn.Close()
			return
		}
		conn = layer.NetConn()
	}
}
