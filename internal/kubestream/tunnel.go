package kubestream

import (
	"errors"
	"io"
	"net"
	"time"
)

// tunnel is a byte stream in the binary messages of a socket. One goroutine reads.
type tunnel struct {
	socket  *Socket
	message io.Reader
}

var _ net.Conn = (*tunnel)(nil)

// Read reads on across messages.
func (t *tunnel) Read(p []byte) (int, error) {
	for {
		if t.message == nil {
			_, message, err := t.socket.conn.NextReader()
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
	if err := t.socket.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the tunnel at once.
func (t *tunnel) Close() error {
	t.socket.Cut()
	return nil
}

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return t.socket.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return t.socket.conn.RemoteAddr() }

// SetDeadline implements net.Conn.
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}

// SetReadDeadline implements net.Conn.
func (t *tunnel) SetReadDeadline(at time.Time) error { return t.socket.conn.SetReadDeadline(at) }

// SetWriteDeadline implements net.Conn.
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.socket.conn.SetWriteDeadline(at) }
