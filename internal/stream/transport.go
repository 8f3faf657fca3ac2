package stream

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/kubestream"
)

// transport is the connection under an upgraded request. It measures the client's
// silence, and it owns the write deadline: a slow reader has none, because a
// timed-out write spoils the connection, until the stream's time is over.
type transport struct {
	net.Conn // the wire

	wire   *kubestream.Wire
	limits limits
	// ahead is what was read before the upgrade; only Read touches it.
	ahead []byte
	over  atomic.Bool
}

func newTransport(conn net.Conn, ahead []byte, l limits) *transport {
	wire := kubestream.NewWire(conn)
	return &transport{Conn: wire, wire: wire, limits: l, ahead: ahead}
}

// Read implements net.Conn.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.ahead) > 0 {
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	return t.wire.Read(p)
}

// Write gives the client the grace period for each write once the stream's time
// is over.
func (t *transport) Write(p []byte) (int, error) {
	if t.over.Load() {
		t.hurry()
	}
	return t.Conn.Write(p)
}

// cut closes the connection. Later calls do nothing.
func (t *transport) cut() { _ = t.Conn.Close() }

// Close never fails: whoever closes second has nothing left to do.
func (t *transport) Close() error {
	t.cut()
	return nil
}

// SetWriteDeadline does nothing: the deadline is the transport's own.
func (*transport) SetWriteDeadline(time.Time) error { return nil }

// hurry bounds the pending write and the next one.
func (t *transport) hurry() {
	_ = t.Conn.SetWriteDeadline(time.Now().Add(t.limits.grace))
}

// expireWith lets writes fail that are stuck when ctx has ended. The result
// undoes it.
func (t *transport) expireWith(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		t.over.Store(true)
		t.hurry()
	})
}

// watch closes the transport when the client is dead, until ctx ends.
func (t *transport) watch(ctx context.Context, wouldSend func() bool) {
	if t.wire.Watch(ctx.Done(), t.limits.ping/2, t.limits.silence, wouldSend) {
		t.cut()
	}
}

// linger waits until the client has closed, which proves that it has read
// everything. Once ctx has ended it waits no longer than the grace period.
// Closing earlier could destroy what the client has not read yet: a reset
// overtakes data.
func (t *transport) linger(ctx context.Context, closed <-chan struct{}) {
	select {
	case <-closed:
		return
	case <-ctx.Done():
	}
	timer := time.NewTimer(t.limits.grace)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}
