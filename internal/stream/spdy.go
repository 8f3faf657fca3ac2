package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/spdystream"
	wire "github.com/moby/spdystream/spdy"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// never is a count of frames that is not reached.
const never = ^uint64(0)

// Bounds of a stream's headers, of which stock clients send three short ones.
// They travel compressed, and unfold to a thousand times their size.
const (
	maxHeaders    = 16
	maxHeaderSize = 1 << 10
)

// spdyConn is an upgraded request that carries SPDY streams.
//
// Its clients answer pings while they read. One that has answered a ping sent
// after the last output has nothing left to read, so when it falls silent then,
// it is gone; one that still has output before it may just be slow.
type spdyConn struct {
	frames *frames
	conn   *spdystream.Connection
	// sent counts frames of output before they are written, written after. read
	// is the count up to which the client is known to have read.
	sent, written, read atomic.Uint64
	finished            atomic.Bool
	pings               pings
	// running ends when nothing more comes from the client.
	running context.Context
	workers sync.WaitGroup

	// mu guards what follows.
	mu     sync.Mutex
	open   map[*spdystream.Stream]struct{}
	closed bool
}

// upgradeSPDY answers the request. If it fails the client has been told.
func (l limits) upgradeSPDY(w http.ResponseWriter, r *http.Request, protocols []string) (*frames, string, bool) {
	protocol, ok := negotiate(w, r, httpstream.HeaderProtocolVersion, protocols)
	if !ok {
		return nil, "", false
	}
	header := w.Header().Clone()
	header.Set(httpstream.HeaderProtocolVersion, protocol)
	header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	h := &hijacker{ResponseWriter: w, limits: l}
	conn, buffers, err := h.Hijack()
	if err != nil {
		refuse(w, http.StatusBadRequest, "this connection cannot be upgraded: use HTTP/1.1")
		return nil, "", false
	}
	_ = conn.SetDeadline(time.Time{}) // What the HTTP server had set.
	_, _ = buffers.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(buffers)
	_, _ = buffers.WriteString("\r\n")
	if err := buffers.Flush(); err != nil {
		h.transport.cut()
		return nil, "", false
	}
	return &frames{transport: h.transport, reader: buffers.Reader, writer: h.transport}, protocol, true
}

// serveSPDY starts to serve a connection. The client's streams go to accept,
// which answers each with take or refuses it with Reset. The end of ctx does not
// end it, since a last word may have to be sent.
func serveSPDY(ctx context.Context, f *frames, accept func(*spdyConn, *spdystream.Stream)) (*spdyConn, error) {
	conn, err := spdystream.NewConnectionWithOptions(f, true,
		wire.WithMaxHeaderCount(maxHeaders), wire.WithMaxHeaderFieldSize(maxHeaderSize))
	if err != nil {
		f.cut()
		return nil, fmt.Errorf("serve SPDY: %w", err)
	}
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &spdyConn{frames: f, conn: conn, running: running, open: map[*spdystream.Stream]struct{}{}}
	c.read.Store(never)
	f.ponged = c.ponged
	gone := func() {
		c.frames.cut()
		stop(ErrClientGone)
	}
	c.workers.Go(func() { conn.Serve(func(s *spdystream.Stream) { accept(c, s) }) })
	c.workers.Go(func() {
		<-conn.CloseChan()
		gone()
	})
	c.workers.Go(func() { c.keep(gone) })
	c.workers.Go(func() {
		c.frames.watch(running, func() bool { return c.finished.Load() || c.read.Load() == c.sent.Load() })
	})
	return c, nil
}

// take accepts a stream, unless the connection is closed.
func (c *spdyConn) take(s *spdystream.Stream) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		_ = s.Reset()
		return false
	}
	c.open[s] = struct{}{}
	c.mu.Unlock()
	if err := s.SendReply(http.Header{}, false); err != nil {
		c.drop(s) // or the library would wait for ever when the client resets it
		return false
	}
	return true
}

// drop ends a stream in both directions; what the client still sends on it is
// ignored.
func (c *spdyConn) drop(s *spdystream.Stream) {
	c.mu.Lock()
	delete(c.open, s)
	c.mu.Unlock()
	_ = s.Reset()
}

// close ends the connection and waits for all that serves it. Streams are reset
// because the library waits for somebody to read what has arrived on them.
func (c *spdyConn) close() {
	c.frames.cut()
	c.mu.Lock()
	c.closed = true
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for s := range open {
		_ = s.Reset()
	}
	c.workers.Wait()
}

// pings are those that we send. One that is not answered is sent again.
type pings struct {
	mu       sync.Mutex
	id       uint32
	answered bool
	// written is the count of output frames before the ping was sent first.
	written uint64
}

// keep pings the client. While input waits for its reader, nothing is read and no
// answer found; then a ping that cannot be sent tells that the client is gone.
func (c *spdyConn) keep(gone func()) {
	ticker := time.NewTicker(c.frames.limits.ping)
	defer ticker.Stop()
	for {
		select {
		case <-c.running.Done():
			return
		case <-ticker.C:
		}
		if err := c.frames.ping(c.nextPing()); err != nil {
			gone()
			return
		}
	}
}

func (c *spdyConn) nextPing() (id uint32) {
	p := &c.pings
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answered || p.id == 0 {
		p.id, p.answered, p.written = p.id+2, false, c.written.Load()
	}
	return p.id
}

// ponged notes what the client has read. The library gives each output to the
// transport as one frame, so what was sent before a ping is read before it.
func (c *spdyConn) ponged(id uint32) {
	p := &c.pings
	p.mu.Lock()
	defer p.mu.Unlock()
	if id == p.id && !p.answered {
		p.answered = true
		c.read.Store(p.written)
	}
}

// spdyReader is the incoming direction of a stream. For the library every end is
// a proper one; here, input that ends with a reset or with the connection has
// been cut off.
type spdyReader struct {
	conn   *spdyConn
	stream *spdystream.Stream
}

func (r spdyReader) Read(p []byte) (int, error) {
	n, err := r.stream.Read(p)
	if errors.Is(err, io.EOF) && r.conn.forgotten(r.stream) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// forgotten reports whether the library has dropped a stream. It does so before
// readers learn of a reset, and keeps a stream of which the client has closed
// only its own direction.
func (c *spdyConn) forgotten(s *spdystream.Stream) bool {
	return c.conn.FindStream(s.Identifier()) == nil
}

// spdyWriter is the outgoing direction of a stream, in frames small enough for
// streams to take turns.
type spdyWriter struct {
	conn   *spdyConn
	stream *spdystream.Stream
}

var errReset = errors.New("the client has reset the stream")

func (w spdyWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		if w.stream.IsFinished() {
			return sent, errReset
		}
		part := p[sent:min(len(p), sent+maxMessage)]
		w.conn.sent.Add(1)
		if _, err := w.stream.Write(part); err != nil {
			return sent, err
		}
		w.conn.written.Add(1)
		sent += len(part)
	}
	return sent, nil
}
