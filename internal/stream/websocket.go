package stream

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/connpool/connpool/internal/kubestream"
)

// maxMessage is the most data that one message or frame carries.
const maxMessage = 32 << 10

// copyBuffers lends the buffers in which data is copied, so that an idle stream holds
// none.
var copyBuffers = sync.Pool{New: func() any { return new([maxMessage]byte) }}

// upgrader accepts any origin: users are authenticated by token or certificate and
// never by a cookie, and a proxy between has another name than the server.
var upgrader = websocket.Upgrader{
	CheckOrigin:     func(*http.Request) bool { return true },
	WriteBufferSize: 1 + base64.StdEncoding.EncodedLen(maxMessage),
	WriteBufferPool: &sync.Pool{},
	Error: func(w http.ResponseWriter, _ *http.Request, code int, reason error) {
		refuse(w, code, reason.Error())
	},
}

// webSocket is an upgraded request that carries numbered channels.
//
// Its client would send something if it lived (see kubestream) once it has sent a
// ping: client-go sends them even while its output is stuck. An answer to a ping
// proves nothing about the next one, since a client may answer only when its
// program reads. Once everything has been sent, only the client's last message is
// left to come.
type webSocket struct {
	*transport

	conn     *websocket.Conn
	pinger   *kubestream.Pinger
	protocol string
	// sending admits one message at a time.
	sending sync.Mutex
	// finished means that everything has been sent.
	finished atomic.Bool
	// running ends with the receiver: nothing more comes from the client.
	running context.Context
	workers sync.WaitGroup
}

// upgradeWebSocket answers the request, also if it fails.
func (l limits) upgradeWebSocket(w http.ResponseWriter, r *http.Request, protocols []string) (*webSocket, bool) {
	protocol, ok := negotiate(w, r, wsstream.WebSocketProtocolHeader, protocols)
	if !ok {
		return nil, false
	}
	h := &hijacker{ResponseWriter: w, limits: l}
	ask := upgrader
	ask.Subprotocols = []string{protocol}
	conn, err := ask.Upgrade(h, r, w.Header())
	if err != nil {
		return nil, false
	}
	return &webSocket{transport: h.transport, conn: conn, protocol: protocol}, true
}

// start runs receive until the client is gone. Then it closes the socket, so that no
// write stays stuck, and running ends. The end of ctx does not end it, because the
// status may still have to be sent.
func (s *webSocket) start(ctx context.Context, receive func() error) {
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	s.running = running
	s.pinger = kubestream.NewPinger(s.conn)
	s.conn.SetCloseHandler(func(int, string) error { return nil })
	gone := func() {
		_ = s.Close()
		stop(ErrClientGone)
	}
	s.workers.Go(func() {
		_ = receive()
		gone()
	})
	s.workers.Go(func() { s.keep(gone) })
	s.workers.Go(func() {
		s.watch(running, func() bool { return s.pinger.PeerPings() || s.finished.Load() })
	})
}

// close ends the connection and waits for the goroutines that serve it.
func (s *webSocket) close() {
	_ = s.Close()
	s.workers.Wait()
}

// finish sends the last message and waits until the client has read everything.
func (s *webSocket) finish(ctx context.Context) {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if err := s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Time{}); err != nil {
		return
	}
	s.finished.Store(true)
	s.linger(ctx, s.running.Done())
}

// keep sends pings, which keep proxies from closing an idle connection, and answers
// those of the client. While input waits for the command, this side does not read;
// then a ping that cannot be sent shows that the client is gone.
func (s *webSocket) keep(gone func()) {
	always := func() (number int64, yes bool) { return 0, true }
	err := s.pinger.Run(s.running.Done(), s.limits.ping, always)
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		gone()
	}
}

// channels say where the data of each channel goes. Data for other channels is dropped.
type channels map[byte]io.Writer

// receive reads messages until the connection ends.
func (s *webSocket) receive(to channels) error {
	for {
		_, message, err := s.conn.NextReader()
		if err != nil {
			return err
		}
		if err := s.dispatch(message, to); err != nil {
			return err
		}
	}
}

// dispatch passes one message to its channel.
func (s *webSocket) dispatch(message io.Reader, to channels) error {
	var channel [1]byte
	if _, err := io.ReadFull(message, channel[:]); err != nil {
		return ignoreEOF(err) // empty messages are legal and mean nothing
	}
	if channel[0] == remotecommand.StreamClose && s.protocol == remotecommand.StreamProtocolV5Name {
		_, err := io.ReadFull(message, channel[:])
		if input, ok := to[channel[0]].(*inbox); ok && err == nil {
			input.close(io.EOF)
		}
		return ignoreEOF(err)
	}
	if s.text() {
		channel[0] -= '0'
		message = base64.NewDecoder(base64.StdEncoding, message)
	}
	return move(to[channel[0]], message)
}

// move copies without keeping a buffer between messages. dst may be nil.
func move(dst io.Writer, src io.Reader) error {
	if dst == nil {
		return nil
	}
	buffer, _ := copyBuffers.Get().(*[maxMessage]byte)
	defer copyBuffers.Put(buffer)
	_, err := io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, buffer[:])
	return err
}

// onlyReader and onlyWriter hide the methods with which io.Copy would bypass the
// buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// text reports whether the protocol carries base64.
func (s *webSocket) text() bool { return strings.Contains(s.protocol, "base64") }

// send writes one message to a channel.
func (s *webSocket) send(channel byte, p []byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	kind := websocket.BinaryMessage
	if s.text() {
		kind = websocket.TextMessage
		channel += '0'
		p = base64.StdEncoding.AppendEncode(nil, p)
	}
	message, err := s.conn.NextWriter(kind)
	if err != nil {
		return err
	}
	// The message has a buffer for both, so only Close can fail.
	_, _ = message.Write([]byte{channel})
	_, _ = message.Write(p)
	return message.Close()
}

// channelWriter is one outgoing channel.
type channelWriter struct {
	socket  *webSocket
	channel byte
}

func (w channelWriter) Write(p []byte) (int, error) {
	sent := 0
	for part := range slices.Chunk(p, maxMessage) {
		if err := w.socket.send(w.channel, part); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}
