package kubestream

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// deadlines are those of a connection that has none of its own. When one passes,
// the connection ends for good.
type deadlines struct {
	// expire ends the connection.
	expire func()
	// expired means that a deadline has passed.
	expired atomic.Bool

	mu      sync.Mutex // guards what follows
	stopped bool
	timers  [2]*time.Timer
}

// SetDeadline implements net.Conn.
func (d *deadlines) SetDeadline(at time.Time) error {
	return errors.Join(d.SetReadDeadline(at), d.SetWriteDeadline(at))
}

// SetReadDeadline implements net.Conn.
func (d *deadlines) SetReadDeadline(at time.Time) error { return d.set(0, at) }

// SetWriteDeadline implements net.Conn.
func (d *deadlines) SetWriteDeadline(at time.Time) error { return d.set(1, at) }

func (d *deadlines) set(which int, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return net.ErrClosed
	}
	if timer := d.timers[which]; timer != nil {
		timer.Stop()
	}
	if d.timers[which] = nil; !at.IsZero() {
		d.timers[which] = time.AfterFunc(time.Until(at), func() {
			d.expired.Store(true)
			d.expire()
		})
	}
	return nil
}

func (d *deadlines) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	for _, timer := range d.timers {
		if timer != nil {
			timer.Stop()
		}
	}
}
