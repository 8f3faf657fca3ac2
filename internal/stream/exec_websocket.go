package stream

import (
	"context"
	"io"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// execSubprotocols are the forms of the exec protocol on WebSockets, best first.
var execSubprotocols = []string{
	remotecommand.StreamProtocolV5Name,
	remotecommand.StreamProtocolV4Name,
	"v4." + wsstream.Base64ChannelWebSocketProtocol,
	wsstream.ChannelWebSocketProtocol,
	wsstream.Base64ChannelWebSocketProtocol,
}

func (l limits) serveExecWebSocket(w http.ResponseWriter, r *http.Request, options ExecOptions, run RunFunc) {
	socket, ok := l.upgradeWebSocket(w, r, execSubprotocols)
	if !ok {
		return
	}
	defer socket.close()
	defer socket.expireWith(r.Context())()
	e := newSocketExec(socket, options)
	socket.start(r.Context(), e.receive)
	ctx, cancel := endWith(r.Context(), socket.running)
	defer cancel()
	if err := e.greet(); err != nil {
		return
	}
	status := run(ctx, e.streams, e.resize)
	e.stdin.discard()
	e.finish(r.Context(), status)
}

// endWith returns a context that also ends, with its cause, when other does.
func endWith(ctx, other context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// socketExec is a command behind a WebSocket.
type socketExec struct {
	socket  *webSocket
	from    channels // those of the client
	streams driver.Streams
	stdin   *inbox
	sizes   *sizes // nil without a terminal
	resize  <-chan driver.WindowSize
}

func newSocketExec(socket *webSocket, options ExecOptions) *socketExec {
	e := &socketExec{socket: socket, from: channels{}, stdin: newInbox()}
	sent := make(signals, maxSignals)
	e.streams.Signals, e.from[kubestream.SignalChannel] = sent, sent
	if options.Stdin {
		e.streams.Stdin, e.from[remotecommand.StreamStdIn] = e.stdin, e.stdin
	}
	if options.Stdout {
		e.streams.Stdout = channelWriter{socket, remotecommand.StreamStdOut}
	}
	if options.Stderr {
		e.streams.Stderr = channelWriter{socket, remotecommand.StreamStdErr}
	}
	if options.TTY {
		e.sizes = newSizes()
		e.resize, e.from[remotecommand.StreamResize] = e.sizes.newest, e.sizes
	}
	return e
}

// receive serves the client's channels until the client is gone. Input that ends with
// the connection was cut.
func (e *socketExec) receive() error {
	if e.sizes != nil {
		defer e.sizes.close()
	}
	defer e.stdin.close(io.ErrUnexpectedEOF)
	return e.socket.receive(e.from)
}

// greet sends an empty message on the first channel. Some clients wait for it, to know
// that the stream is open.
func (e *socketExec) greet() error {
	channel := byte(remotecommand.StreamErr)
	switch {
	case e.streams.Stdout != nil:
		channel = remotecommand.StreamStdOut
	case e.streams.Stderr != nil:
		channel = remotecommand.StreamStdErr
	}
	return e.socket.send(channel, nil)
}

// finish sends the status, and waits until the client has it.
func (e *socketExec) finish(ctx context.Context, status *metav1.Status) {
	text := encodeStatus(status, e.socket.protocol)
	if _, err := (channelWriter{e.socket, remotecommand.StreamErr}).Write(text); err != nil {
		return
	}
	e.socket.finish(ctx)
}
