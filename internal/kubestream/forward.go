package kubestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream"
	"k8s.io/apimachinery/pkg/util/portforward"

	"github.com/connpool/connpool/internal/spdyframe"
)

// ForwardProtocol is the subprotocol that a Forwarder speaks.
const ForwardProtocol = portforward.WebsocketsSPDYTunnelingPortForwardV1

// Forwarder opens connections to ports over one socket. It is safe for concurrent
// use.
type Forwarder struct {
	socket  *Socket
	guard   *spdyframe.Guard
	streams *spdystream.Connection
	next    atomic.Int64
	// single means that the only connection owns the socket.
	single bool

	mu   sync.Mutex
	open map[*spdystream.Stream]struct{} // nil when the forwarder is closed
}

// NewForwarder takes over a socket that was upgraded to ForwardProtocol. If it fails,
// it cuts the socket.
func NewForwarder(socket *Socket) (*Forwarder, error) { return newForwarder(socket, 0) }

func newForwarder(socket *Socket, window int64) (*Forwarder, error) {
	guarded := spdyframe.NewGuard(newTunnel(socket), window, socket.done)
	streams, err := spdystream.NewConnectionWithOptions(guarded, false, spdyframe.Options()...)
	if err != nil {
		socket.Cut()
		return nil, fmt.Errorf("speak SPDY: %w", err)
	}
	go streams.Serve(spdystream.NoOpStreamHandler) // the guard lets no stream of the server pass
	return &Forwarder{socket: socket, guard: guarded, streams: streams, open: map[*spdystream.Stream]struct{}{}}, nil
}

// DialSingle opens the only connection over a socket, which ends with the connection:
// when that is closed, or when one of its deadlines passes. If DialSingle fails, it
// cuts the socket.
func DialSingle(ctx context.Context, socket *Socket, port string) (*Conn, error) {
	f, err := newForwarder(socket, window)
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
		conn, err := f.connect(port) // waits up to 30 s for the server
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

// replyTimeout is how long the server may take to accept a stream.
const replyTimeout = 30 * time.Second

// connect opens the two streams of a connection: the one for errors comes first.
func (f *Forwarder) connect(port string) (*Conn, error) {
	header := http.Header{"Port": {port}, "Requestid": {strconv.FormatInt(f.next.Add(1), 10)}, "Streamtype": {"error"}}
	report, err := f.stream(header)
	if err != nil {
		return nil, err
	}
	_ = report.Close() // this side sends nothing on it
	header.Set("Streamtype", "data")
	data, err := f.stream(header)
	if err != nil {
		f.drop(report)
		return nil, err
	}
	return newConn(f, data, report), nil
}

func (f *Forwarder) stream(header http.Header) (*spdystream.Stream, error) {
	stream, err := f.streams.CreateStream(header, nil, false)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	if f.open != nil {
		f.open[stream] = struct{}{}
	}
	f.mu.Unlock()
	if err := f.wait(stream); err != nil {
		f.drop(stream)
		return nil, err
	}
	return stream, nil
}

// wait waits for the server's reply, or for the end, which the library does not notice.
func (f *Forwarder) wait(stream *spdystream.Stream) error {
	for end := time.Now().Add(replyTimeout); ; {
		err := stream.WaitTimeout(replyTimeout / 100)
		switch {
		case !errors.Is(err, spdystream.ErrTimeout), time.Now().After(end):
			return err
		case f.Lost():
			return ErrClosed
		}
	}
}

// drop ends streams in both directions and forgets them.
func (f *Forwarder) drop(streams ...*spdystream.Stream) {
	for _, stream := range streams {
		_ = stream.Reset()
		f.mu.Lock()
		delete(f.open, stream)
		f.mu.Unlock()
	}
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
	f.mu.Lock()
	open := f.open
	f.open = nil
	f.mu.Unlock()
	for stream := range open {
		_ = stream.Reset() // the library waits for the end of every stream
	}
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
