// Package stream puts what a connection can do on the wire that stock
// Kubernetes clients speak: a command on the exec protocol, connections to a
// target's ports on the port-forward protocol. It knows nothing of pools,
// leases or API objects; the caller brings what is to be served as a function.
//
//	stream.ServeExec(w, r, stream.ExecOptions{Stdout: true}, run)
//	stream.ServePortForward(w, r, dial)
//
// Both answer the request completely: a request that cannot be upgraded gets a
// Status that says what to send, and an upgraded one is served to its end.
//
// Commands travel over WebSocket (v5.channel.k8s.io down to channel.k8s.io,
// binary and base64) and SPDY (v4 to v1); ports over SPDY, SPDY inside a
// WebSocket, and the older WebSocket channels.
//
// Trade-offs. WebSockets are served with the library that client-go uses and
// not with wsstream, which can neither send pings nor join fragmented messages,
// and holds each message in memory as a whole. Neither protocol has flow
// control: input that the command does not read is kept up to a bound, then
// everything that this client sends waits behind it. And silence alone does not
// prove that a client is gone, because one that is slow to read answers no ping;
// see the comments at webSocket and spdyConn for what counts as proof.
package stream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/connpool/connpool/internal/driver"
)

// ErrClientGone is the cause of a context that ended because the client closed
// its connection or vanished.
var ErrClientGone = errors.New("the client is gone")

// ExecOptions says which streams a command has. The client has to open exactly
// these.
type ExecOptions struct {
	Stdin, Stdout, Stderr bool
	// TTY announces a terminal: its sizes arrive on the resize channel, and there
	// is no stderr.
	TTY bool
}

// RunFunc runs the command behind the streams and says how it ended; the result
// is never nil. Streams that the options do not name are nil. resize holds the
// newest size that was not received yet and is closed when the client has no
// more to say; it is nil without a terminal.
//
// ctx ends when the request's context does, or with the cause ErrClientGone. A
// RunFunc may leave a Read of stdin behind that has not returned.
type RunFunc func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status

// DialFunc connects to a port of the target. Its error is shown to the client.
type DialFunc func(ctx context.Context, port uint16) (net.Conn, error)

// ServeExec upgrades the request, calls run once and sends its output, then its
// status. Headers that are set on w become part of the answer. run is not
// called if the upgrade fails or the client does not open its streams.
//
// When the request's context ends, the status of run still goes to a client
// that reads. ServeExec returns when run has returned, all is sent or cannot be
// sent any more, and nothing is left running.
func ServeExec(w http.ResponseWriter, r *http.Request, options ExecOptions, run RunFunc) {
	standard.serveExec(w, r, options, run)
}

// ServePortForward upgrades the request and connects the client to the ports
// that it asks for, until the client leaves or the request's context ends.
// Headers that are set on w become part of the answer.
func ServePortForward(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	standard.servePortForward(w, r, dial)
}

// limits bounds what a client may keep waiting.
type limits struct {
	// ping is how often the client is asked for a sign of life.
	ping time.Duration
	// silence is how long a client may be silent that would speak if it lived.
	silence time.Duration
	// grace is how long a client has to take what is left when its time is over.
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
