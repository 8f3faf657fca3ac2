// Package stream is the server side of the protocols that stock Kubernetes clients
// speak: exec for a command, port-forward for connections to a target's ports. It
// knows no pools, leases or API objects: the caller passes a function that runs the
// command or dials the port.
//
//	stream.ServeExec(w, r, stream.ExecOptions{Stdout: true}, run)
//	stream.ServePortForward(w, r, dial)
//
// Both answer the request completely. A request that cannot be upgraded gets a
// Status that says what to send. An upgraded one is served to its end.
//
// Commands travel over WebSocket (v5.channel.k8s.io down to channel.k8s.io,
// binary and base64) and SPDY (v4 to v1); ports over SPDY, SPDY inside a
// WebSocket, and the older WebSocket channels.
//
// Trade-offs. WebSockets are served with the library that client-go uses and not
// with wsstream, which cannot send pings or join fragmented messages, and which
// holds each message in memory as a whole. Neither protocol has flow control: input
// that the command does not read is kept up to a bound, and then everything that
// this client sends waits behind it. When a silent client is gone is decided by the
// rule of internal/kubestream; the comments at webSocket and spdyConn say how it
// applies to each protocol.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/connpool/connpool/internal/driver"
)

// ErrClientGone is the cause of a context that ended because the client closed
// its connection or vanished.
var ErrClientGone = errors.New("the client is gone")

// ClientLeft reports whether a context ended for the cause that its client did not wait.
func ClientLeft(cause error) bool {
	return errors.Is(cause, context.Canceled) || errors.Is(cause, ErrClientGone)
}

// ErrUnread is the cause of a context that ends a stream because its client does not
// read. Such a stream ends at once, without a status.
var ErrUnread = errors.New("the client does not read")

// ExecOptions are the streams that a command has. The client must open exactly
// these.
type ExecOptions struct {
	Stdin, Stdout, Stderr bool
	// TTY means that there is a terminal: its sizes arrive on the resize channel, and
	// there is no stderr.
	TTY bool
}

// RunFunc runs the command behind the streams and returns how it ended, which is not
// nil. Streams that the options do not name are nil. Signals come over WebSockets only. resize holds the newest size
// that was not received yet, and is closed when no more sizes can come. It is nil
// without a terminal.
//
// ctx ends when the request's context does, or with the cause ErrClientGone. When a
// RunFunc returns, a Read of stdin may still be pending.
type RunFunc func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status

// DialFunc connects to a port of the target. The client gets the message of its
// error.
type DialFunc func(ctx context.Context, port uint16) (net.Conn, error)

// ServeExec upgrades the request, calls run once and sends its output, then its
// status. Headers that are set on w become part of the answer. run is not called if
// the upgrade fails or if the client does not open its streams.
//
// When the request's context ends, a client that reads still gets the status of run.
// ServeExec returns when run has returned and the rest is sent, or cannot be sent any
// more. It leaves no goroutine behind.
func ServeExec(w http.ResponseWriter, r *http.Request, options ExecOptions, run RunFunc) {
	standard.serveExec(w, r, options, run)
}

// ServePortForward upgrades the request and connects the client to the ports that it
// asks for, until the client leaves or the request's context ends.
// Headers that are set on w become part of the answer.
func ServePortForward(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	standard.servePortForward(w, r, dial)
}

// limits bounds what a client may keep waiting.
type limits struct {
	// ping is how often the client is pinged.
	ping time.Duration
	// silence is how long a client may be silent that would send something if it lived.
	silence time.Duration
	// grace is how long a client may take for each write, and for the end, after its
	// stream's context has ended.
	grace time.Duration
	// open is how long a client has to open the streams of a SPDY request.
	open time.Duration
}

var standard = limits{
	ping:    5 * time.Second,
	silence: 12 * time.Second,
	grace:   5 * time.Second,
	open:    30 * time.Second,
}

func (l limits) serveExec(w http.ResponseWriter, r *http.Request, options ExecOptions, run RunFunc) {
	if options.TTY {
		options.Stderr = false
	}
	switch {
	case wsstream.IsWebSocketRequest(r):
		l.serveExecWebSocket(w, r, options, run)
	case isSPDYRequest(r):
		l.serveExecSPDY(w, r, options, run)
	default:
		refuse(w, http.StatusBadRequest, plainRequest(execSubprotocols[0]))
	}
}

func (l limits) servePortForward(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	switch {
	case wsstream.IsWebSocketRequest(r):
		l.serveForwardWebSocket(w, r, dial)
	case isSPDYRequest(r):
		l.serveForwardSPDY(w, r, dial)
	default:
		refuse(w, http.StatusBadRequest, plainRequest(tunnelProtocol))
	}
}

// encodeStatus returns how a command ended in the form that the protocol has on its
// error stream. Since v4 that is a Status. Before, it is the message of a failure, and
// nothing for a success.
func encodeStatus(status *metav1.Status, protocol string) []byte {
	if strings.HasPrefix(protocol, "v4.") || strings.HasPrefix(protocol, "v5.") {
		text, _ := json.Marshal(status) //nolint:errchkjson // a Status always has a JSON form
		return text
	}
	if status.Status == metav1.StatusSuccess {
		return nil
	}
	return []byte(status.Message)
}

// side is the client's end of a forwarded connection.
type side struct {
	// in fails, and does not end, when the client has given up the connection.
	in  io.Reader
	out io.Writer
	// problems tells the client why the connection to the target failed.
	problems io.Writer
	// reported, if it is not nil, tells the client that nothing follows on problems.
	// Clients wait for that, and may keep their own direction open.
	reported func()
	// ended tells the client that the target sends no more.
	ended func()
}

// connect dials, and moves bytes in both directions until both have ended, or ctx has.
func (s side) connect(ctx context.Context, dial DialFunc, port uint16) {
	target, err := dial(ctx, port)
	if err != nil {
		s.fail(err)
		return
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() { _ = target.Close() })()
	var workers sync.WaitGroup
	workers.Go(func() {
		err := move(target, s.in)
		half, ok := target.(driver.HalfCloser)
		if err != nil || !ok {
			_ = target.Close()
			return
		}
		_ = half.CloseWrite()
	})
	if err := move(s.out, target); err != nil {
		if explained, ok := errors.AsType[*driver.Error](err); ok { // some targets refuse a connection only when it is read
			s.fail(explained)
		}
		_ = target.Close()
	}
	s.ended()
	workers.Wait()
}

// fail tells the client why its port cannot be reached.
func (s side) fail(err error) {
	_, _ = io.WriteString(s.problems, driver.AsError(err).Message)
	if s.reported != nil {
		s.reported()
	}
}
