package stream

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/moby/spdystream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	"github.com/connpool/connpool/internal/driver"
)

// The names that clients give to the streams of a command.
const (
	streamTypeHeader = "Streamtype"

	streamStdin  = "stdin"
	streamStdout = "stdout"
	streamStderr = "stderr"
	streamError  = "error"
	streamResize = "resize"
)

func (l limits) serveExecSPDY(w http.ResponseWriter, r *http.Request, options ExecOptions, run RunFunc) {
	framed, protocol, ok := l.upgradeSPDY(w, r, remotecommand.SupportedStreamingProtocols)
	if !ok {
		return
	}
	e := newSPDYExec(protocol, options)
	conn, err := serveSPDY(r.Context(), framed, e.accept)
	if err != nil {
		return
	}
	defer conn.close()
	defer conn.frames.expireWith(r.Context())()
	ctx, cancel := endWith(r.Context(), conn.running)
	defer cancel()
	if !e.awaitStreams(ctx, l.open) {
		return
	}
	e.serve(ctx, conn, run)
	conn.finished.Store(true)
	conn.frames.linger(r.Context(), conn.running.Done())
}

// spdyExec is a command behind SPDY streams.
type spdyExec struct {
	protocol string
	sizes    *sizes
	// complete is closed when all the streams are open.
	complete chan struct{}

	// mu guards what follows until complete is closed. After that it does not change.
	mu      sync.Mutex
	missing map[string]bool
	streams map[string]*spdystream.Stream
}

func newSPDYExec(protocol string, options ExecOptions) *spdyExec {
	e := &spdyExec{
		protocol: protocol,
		sizes:    newSizes(),
		complete: make(chan struct{}),
		missing:  map[string]bool{streamError: true},
		streams:  map[string]*spdystream.Stream{},
	}
	resizes := protocol != remotecommand.StreamProtocolV1Name && protocol != remotecommand.StreamProtocolV2Name
	for name, wanted := range map[string]bool{
		streamStdin:  options.Stdin,
		streamStdout: options.Stdout,
		streamStderr: options.Stderr,
		streamResize: options.TTY && resizes,
	} {
		if wanted {
			e.missing[name] = true
		}
	}
	return e
}

// accept takes the streams that the options name, each once.
func (e *spdyExec) accept(conn *spdyConn, stream *spdystream.Stream) {
	name := stream.Headers().Get(streamTypeHeader)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.missing[name] {
		_ = stream.Reset()
		return
	}
	if !conn.take(stream) {
		return
	}
	delete(e.missing, name)
	e.streams[name] = stream
	if len(e.missing) == 0 {
		close(e.complete)
	}
}

// awaitStreams reports whether the client has opened all streams in time.
func (e *spdyExec) awaitStreams(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-e.complete:
		return true
	case <-ctx.Done():
		return false
	}
}

// serve runs the command and sends its status.
func (e *spdyExec) serve(ctx context.Context, conn *spdyConn, run RunFunc) {
	var resize <-chan driver.WindowSize
	if stream := e.streams[streamResize]; stream != nil {
		resize = e.sizes.newest
		conn.workers.Go(func() {
			defer e.sizes.close()
			_ = move(e.sizes, stream)
		})
	}
	e.finish(conn, run(ctx, e.driverStreams(conn), resize))
}

func (e *spdyExec) driverStreams(conn *spdyConn) driver.Streams {
	var streams driver.Streams
	if stream := e.streams[streamStdin]; stream != nil {
		streams.Stdin = spdyStream{conn, stream}
	}
	if stream := e.streams[streamStdout]; stream != nil {
		streams.Stdout = spdyStream{conn, stream}
	}
	if stream := e.streams[streamStderr]; stream != nil {
		streams.Stderr = spdyStream{conn, stream}
	}
	return streams
}

// finish sends the status and ends the streams. The error stream is first, because
// clients of the first protocol stop reading when the output ends.
func (e *spdyExec) finish(conn *spdyConn, status *metav1.Status) {
	if text := encodeStatus(status, e.protocol); len(text) > 0 {
		_, _ = spdyStream{conn, e.streams[streamError]}.Write(text)
	}
	_ = e.streams[streamError].Close()
	for _, name := range []string{streamStdout, streamStderr} {
		if stream := e.streams[name]; stream != nil {
			_ = stream.Close()
		}
	}
	for _, name := range []string{streamStdin, streamResize} {
		if stream := e.streams[name]; stream != nil {
			conn.drop(stream)
		}
	}
}
