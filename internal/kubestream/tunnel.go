package kubestream

import (
	"errors"
	"io"
	"net"

	"github.com/gorilla/websocket"
)

// MessageReader reads the bytes in the messages of a WebSocket, on across messages.
type MessageReader struct {
	conn    *websocket.Conn
	message io.Reader
}

// NewMessageReader returns a MessageReader, which must be the only reader of conn.
func NewMessageReader(conn *websocket.Conn) *MessageReader { return &MessageReader{conn: conn} }

// Read implements io.Reader.
func (r *MessageReader) Read(p []byte) (int, error) {
	for {
		if r.message == nil {
			_, message, err := r.conn.NextReader()
			if err != nil {
				return 0, err
			}
			r.message = message
		}
		n, err := r.message.Read(p)
		if errors.Is(err, io.EOF) {
			r.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// tunnel is a byte stream in the messages of a socket.
type tunnel struct {
	net.Conn // the connection below: its addresses, and its deadlines

	socket *Socket
	reader *MessageReader
}

func newTunnel(socket *Socket) *tunnel {
	return &tunnel{Conn: socket.conn.NetConn(), socket: socket, reader: NewMessageReader(socket.conn)}
}

// Read implements net.Conn.
func (t *tunnel) Read(p []byte) (int, error) { return t.reader.Read(p) }

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
