package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/spdystream"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/connpool/connpool/internal/spdyframe"
)

// never is a count of frames that is never reached.
const never = ^uint64(0)

// spdyConn is an upgraded request that carries SPDY streams.
//
// Its clients answer pings while they read. A client that answered a ping sent after
// the last output always reads, because it has nothing left to read, so it would
// answer the next ping if it lived (see kubestream). A client that has not read all
// output may just be slow.
type spdyConn struct {
	frames *frames
	conn   *spdystream.Connection
	// sent and written count the frames of output, before and after each. read is the
	// count up to which the client is known to have read.
	sent, written, read atomic.Uint64
	finished            atomic.Bool
	// running ends when nothing more comes from the client.
	running context.Context
	workers sync.WaitGroup

	// mu guards what follows.
	mu sync.Mutex
	// open is nil when the connection is closed.
	open map[*spdystream.Stream]struct{}
	// ping is the ID of the last ping, pong that of the last one that was answered. A
	// ping that is not answered is sent again.
	ping, pong uint32
	// pinged is the count of output frames when ping was sent for the first time.
	pinged uint64
}

// upgradeSPDY answers the request, also if it fails.
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
	_ = conn.SetDeadline(time.Time{}) // that of the HTTP server
	_, _ = buffers.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(buffers)
	_, _ = buffers.WriteString("\r\n")
	if err := buffers.Flush(); err != nil {
		_ = h.transport.Close()
		return nil, "", false
	}
	return &frames{transport: h.transport, reader: buffers.Reader, writer: h.transport}, protocol, true
}

// serveSPDY starts to serve a connection. It passes the client's streams to accept,
// which takes each with take or refuses it with Reset. The end of ctx does not end the
// connection, because the status may still have to be sent.
func serveSPDY(ctx context.Context, f *frames, accept func(*spdyConn, *spdystream.Stream)) (*spdyConn, error) {
	conn, err := spdystream.NewConnectionWithOptions(f, true, spdyframe.Options()...)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("serve SPDY: %w", err)
	}
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &spdyConn{frames: f, conn: conn, running: running, open: map[*spdystream.Stream]struct{}{}}
	c.read.Store(never)
	f.ponged = c.ponged
	gone := func() {
		_ = c.frames.Close()
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
	closed := c.open == nil
	if !closed {
		c.open[s] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		_ = s.Reset()
		return false
	}
	c.frames.unread.open(s.Identifier())
	if err := s.SendReply(http.Header{}, false); err != nil {
		c.drop(s) // otherwise the library hangs when the client resets the stream
		return false
	}
	return true
}

// drop ends a stream in both directions. What the client still sends on it is ignored.
func (c *spdyConn) drop(s *spdystream.Stream) {
	c.mu.Lock()
	delete(c.open, s)
	c.mu.Unlock()
	_ = s.Reset()
	c.frames.unread.drop(s.Identifier())
}

// close ends the connection and waits for the goroutines that serve it. It resets the
// streams, because the library waits until everything that arrived on them is read.
func (c *spdyConn) close() {
	_ = c.frames.Close()
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for s := range open {
		_ = s.Reset()
	}
	c.workers.Wait()
}

// keep pings the client. While input waits for the command, this side does not read,
// so it finds no answer; then a ping that cannot be sent shows that the client is
// gone.
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pong == c.ping {
		c.ping, c.pinged = c.ping+2, c.written.Load()
	}
	return c.ping
}

// ponged records what the client has read. Output and pings are sent whole and in
// order, so the client has read what was written before the ping that it answers.
func (c *spdyConn) ponged(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.ping && id != c.pong {
		c.pong = id
		c.read.Store(c.pinged)
	}
}

// spdyStream is a stream as a reader and a writer.
type spdyStream struct {
	conn   *spdyConn
	stream *spdystream.Stream
}

// Read fails if the input ends with a reset or with the connection, for then it was
// cut. The library reports these ends as io.EOF too, but it removes the stream before
// readers learn of them. It keeps a stream on which the client has only ended its own
// direction.
func (s spdyStream) Read(p []byte) (int, error) {
	n, err := s.stream.Read(p)
	s.conn.frames.unread.add(s.stream.Identifier(), -n)
	if errors.Is(err, io.EOF) && s.conn.conn.FindStream(s.stream.Identifier()) == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

var errReset = errors.New("the client has reset the stream")

// Write sends small frames, so that streams can take turns.
func (s spdyStream) Write(p []byte) (int, error) {
	sent := 0
	for part := range slices.Chunk(p, maxMessage) {
		if s.stream.IsFinished() {
			return sent, errReset
		}
		s.conn.sent.Add(1)
		if _, err := s.stream.Write(part); err != nil {
			return sent, err
		}
		s.conn.written.Add(1)
		sent += len(part)
	}
	return sent, nil
}
