package stream

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/kubestream"
)

// transport is the connection under an upgraded request. It measures the client's
// silence, and it owns the write deadline. There is none until the stream's context
// ends: a client may be slow, and a write that times out spoils the connection.
type transport struct {
	net.Conn // is wire

	wire   *kubestream.Wire
	limits limits
	// ahead is what was read before the upgrade. Only Read uses it.
	ahead []byte
	// over means that the stream's context has ended.
	over atomic.Bool
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
	return t.Conn.Read(p)
}

// Write implements net.Conn. After the end of the stream's context, the client has the
// grace period for each write.
func (t *transport) Write(p []byte) (int, error) {
	if t.over.Load() {
		t.hurry()
	}
	return t.Conn.Write(p)
}

// Close implements net.Conn. It may be called again, and never fails.
func (t *transport) Close() error {
	_ = t.Conn.Close()
	return nil
}

// SetWriteDeadline does nothing: the transport sets the deadline.
func (*transport) SetWriteDeadline(time.Time) error { return nil }

// hurry bounds the pending write and the next one.
func (t *transport) hurry() {
	_ = t.Conn.SetWriteDeadline(time.Now().Add(t.limits.grace))
}

// expireWith makes writes fail that are stuck when ctx has ended. The result undoes
// that.
func (t *transport) expireWith(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		t.over.Store(true)
		t.hurry()
	})
}

// watch closes the transport when the client is dead, until ctx ends.
func (t *transport) watch(ctx context.Context, wouldSend func() bool) {
	if t.wire.Watch(ctx.Done(), t.limits.ping/2, t.limits.silence, wouldSend) {
		_ = t.Close()
	}
}

// linger waits until the client has closed the connection, which proves that it has
// read everything. After the end of ctx it waits no longer than the grace period.
// Closing earlier could destroy what the client has not read yet: a reset overtakes
// data.
func (t *transport) linger(ctx context.Context, closed <-chan struct{}) {
	select {
	case <-closed:
		return
	case <-ctx.Done():
	}
	select {
	case <-closed:
	case <-time.After(t.limits.grace):
	}
}
