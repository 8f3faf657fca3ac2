package kubestream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// ForwardProtocol is the subprotocol that a Forwarder speaks.
const ForwardProtocol = portforward.WebsocketsSPDYTunnelingPortForwardV1

// Forwarder opens connections to ports over one socket. It is safe for concurrent
// use.
type Forwarder struct {
	socket  *Socket
	streams httpstream.Connection
	next    atomic.Int64
	// single means that the only connection owns the socket.
	single bool
}

// NewForwarder takes over a socket that was upgraded to ForwardProtocol. If it fails,
// it cuts the socket.
func NewForwarder(socket *Socket) (*Forwarder, error) {
	streams, err := spdy.NewClientConnection(newTunnel(socket))
	if err != nil {
		return nil, fmt.Errorf("speak SPDY: %w", err)
	}
	return &Forwarder{socket: socket, streams: streams}, nil
}

// DialSingle opens the only connection over a socket, which ends with the connection:
// when that is closed, or when one of its deadlines passes. If DialSingle fails, it
// cuts the socket.
func DialSingle(ctx context.Context, socket *Socket, port string) (*Conn, error) {
	f, err := NewForwarder(socket)
	if err != nil {
		return nil, err
	}
	f.single = true
	conn, err := f.Dial(ctx, port)
	if err != nil {
		socket.Cut()
		f.Close()
		return nil, err
	}
	return conn, nil
}

// Dial opens a connection. The protocol does not say whether something listens at the
// port: if nothing does, the connection ends, and its Report says why.
func (f *Forwarder) Dial(ctx context.Context, port string) (*Conn, error) {
	type result struct {
		conn *Conn
		err  error
	}
	if f.Lost() {
		return nil, ErrClosed
	}
	opened, abandoned := make(chan result), make(chan struct{})
	defer close(abandoned)
	go func() {
		conn, err := f.open(port) // waits up to 30 s for the server, whatever becomes of the socket
		select {
		case opened <- result{conn, err}:
		case <-abandoned:
			if err == nil {
				conn.abort()
			}
		}
	}()
	select {
	case r := <-opened:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-f.Done():
		return nil, ErrClosed
	}
}

// open opens the two streams of a connection: the one for errors comes first.
func (f *Forwarder) open(port string) (*Conn, error) {
	header := http.Header{"Port": {port}, "Requestid": {strconv.FormatInt(f.next.Add(1), 10)}, "Streamtype": {"error"}}
	report, err := f.streams.CreateStream(header)
	if err != nil {
		return nil, err
	}
	_ = report.Close() // this side sends nothing on it
	header.Set("Streamtype", "data")
	data, err := f.streams.CreateStream(header)
	if err != nil {
		_ = report.Reset()
		f.streams.RemoveStreams(report)
		return nil, err
	}
	return newConn(f, data, report), nil
}

// Done is closed when the connection to the server is lost or closed.
func (f *Forwarder) Done() <-chan bool { return f.streams.CloseChan() }

// Lost reports whether the connection to the server is lost or closed.
func (f *Forwarder) Lost() bool {
	select {
	case <-f.Done():
		return true
	default:
		return false
	}
}

// Close ends the socket and every connection over it.
func (f *Forwarder) Close() {
	// The last frames are written at once or not at all.
	defer time.AfterFunc(lastWords, f.socket.Cut).Stop()
	_ = f.streams.Close()
}

// tunnel is a byte stream in the messages of a socket.
type tunnel struct {
	net.Conn // the connection below: its addresses, and its deadlines

	socket *Socket
	reader io.Reader
}

func newTunnel(socket *Socket) *tunnel {
	return &tunnel{Conn: socket.conn.NetConn(), socket: socket, reader: websocket.JoinMessages(socket.conn, "")}
}

func (t *tunnel) Read(p []byte) (int, error) { return t.reader.Read(p) }

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
