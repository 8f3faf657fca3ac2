package stream

import (
	"maps"
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
	select {
	case <-e.complete:
	case <-ctx.Done():
		return
	case <-time.After(l.open):
		return
	}
	e.finish(conn, run(ctx, e.driverStreams(conn), e.resize(conn)))
	conn.finished.Store(true)
	conn.frames.linger(r.Context(), conn.running.Done())
}

// spdyExec is a command behind SPDY streams.
type spdyExec struct {
	protocol string
	// complete is closed when all the streams are open.
	complete chan struct{}

	// mu guards what follows until complete is closed. After that it does not change.
	mu      sync.Mutex
	missing map[string]bool
	streams map[string]*spdystream.Stream
}

func newSPDYExec(protocol string, options ExecOptions) *spdyExec {
	resizes := protocol != remotecommand.StreamProtocolV1Name && protocol != remotecommand.StreamProtocolV2Name
	missing := map[string]bool{
		streamError:  true,
		streamStdin:  options.Stdin,
		streamStdout: options.Stdout,
		streamStderr: options.Stderr,
		streamResize: options.TTY && resizes,
	}
	maps.DeleteFunc(missing, func(_ string, wanted bool) bool { return !wanted })
	return &spdyExec{
		protocol: protocol, complete: make(chan struct{}), missing: missing, streams: map[string]*spdystream.Stream{},
	}
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

// resize starts to read the sizes of the terminal, if there is one.
func (e *spdyExec) resize(conn *spdyConn) <-chan driver.WindowSize {
	stream := e.streams[streamResize]
	if stream == nil {
		return nil
	}
	sizes := newSizes()
	conn.workers.Go(func() {
		defer sizes.close()
		_ = move(sizes, spdyStream{conn, stream})
	})
	return sizes.newest
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
	_, _ = spdyStream{conn, e.streams[streamError]}.Write(encodeStatus(status, e.protocol))
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
