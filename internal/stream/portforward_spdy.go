package stream

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/moby/spdystream"
	"k8s.io/apimachinery/pkg/util/portforward"
)

// The headers of the two streams of a forwarded connection.
const (
	portHeader      = "Port"
	requestIDHeader = "Requestid"

	streamData = "data"
)

const (
	// maxForwards bounds the connections of one port-forward, each of which may hold a
	// window of megabytes. Browsers open 6 to a host. A user who needs more connections
	// can forward the port twice.
	maxForwards = 128
	// maxPairs bounds connections that are incomplete, or being refused, as well.
	maxPairs = 2 * maxForwards
)

var errTooManyForwards = fmt.Errorf(
	"this port-forward has %d connections, which is the most; close one, or forward the port once more", maxForwards)

func (l limits) serveForwardSPDY(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	framed, _, ok := l.upgradeSPDY(w, r, []string{portforward.PortForwardV1Name})
	if ok {
		l.forward(r.Context(), framed, dial)
	}
}

// forward serves a port-forward until the client leaves or ctx ends.
func (l limits) forward(ctx context.Context, framed *frames, dial DialFunc) {
	f := &forwards{
		ctx: ctx, dial: dial, opening: l.open,
		connected: make(chan struct{}, maxForwards), pairs: map[string]*streamPair{},
	}
	conn, err := serveSPDY(ctx, framed, f.accept)
	if err != nil {
		return
	}
	defer framed.expireWith(ctx)()
	select {
	case <-ctx.Done():
	case <-conn.running.Done():
	}
	conn.close()
	f.workers.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, incomplete := range f.pairs {
		incomplete.expire.Stop()
	}
}

// forwards are the connections of one port-forward.
type forwards struct {
	ctx     context.Context
	dial    DialFunc
	opening time.Duration
	workers sync.WaitGroup
	// connected holds a value for each pair that leads to the target.
	connected chan struct{}

	mu    sync.Mutex
	pairs map[string]*streamPair
}

// streamPair is one connection: a stream for its data, and one for errors.
type streamPair struct {
	port        uint16
	data, error *spdystream.Stream
	// expire removes a pair that the client leaves incomplete.
	expire *time.Timer
}

// accept takes a stream, and serves the connection that it completes.
func (f *forwards) accept(conn *spdyConn, stream *spdystream.Stream) {
	id, port, ok := identify(stream)
	if !ok || !f.add(conn, stream, id, port) {
		_ = stream.Reset()
	}
}

// identify reads the headers of a stream. A client that sends no request IDs opens the
// streams of a pair one after the other: first the one for errors.
func identify(stream *spdystream.Stream) (id string, port uint16, ok bool) {
	header := stream.Headers()
	number, err := strconv.ParseUint(header.Get(portHeader), 10, 16)
	if err != nil || number == 0 {
		return "", 0, false
	}
	first := stream.Identifier()
	switch header.Get(streamTypeHeader) {
	case streamError:
	case streamData:
		first -= 2
	default:
		return "", 0, false
	}
	if id = header.Get(requestIDHeader); id == "" {
		id = "stream " + strconv.FormatUint(uint64(first), 10)
	}
	return id, uint16(number), true
}

// add puts a stream into its pair. It reports whether the stream belongs to one.
func (f *forwards) add(conn *spdyConn, stream *spdystream.Stream, id string, port uint16) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	pair := f.pairs[id]
	if pair == nil {
		if len(f.pairs) >= maxPairs || f.ctx.Err() != nil {
			return false
		}
		pair = &streamPair{port: port}
		pair.expire = time.AfterFunc(f.opening, func() { f.remove(conn, id, pair) })
		f.pairs[id] = pair
	}
	side := &pair.data
	if stream.Headers().Get(streamTypeHeader) == streamError {
		side = &pair.error
	}
	if *side != nil || pair.port != port || !conn.take(stream) {
		return false
	}
	*side = stream
	if pair.data != nil && pair.error != nil && pair.expire.Stop() {
		f.workers.Go(func() { f.connect(conn, id, pair) })
	}
	return true
}

// remove forgets a pair and ends its streams.
func (f *forwards) remove(conn *spdyConn, id string, pair *streamPair) {
	pair.expire.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pairs, id)
	for _, stream := range []*spdystream.Stream{pair.error, pair.data} {
		if stream != nil {
			conn.drop(stream)
		}
	}
}

// connect serves one connection to its end.
func (f *forwards) connect(conn *spdyConn, id string, pair *streamPair) {
	defer f.remove(conn, id, pair)
	defer pair.error.Close() //nolint:errcheck // the client is gone if it fails
	ctx, cancel := endWith(f.ctx, conn.running)
	defer cancel()
	data := spdyStream{conn, pair.data}
	client := side{
		in: data, out: data, problems: spdyStream{conn, pair.error},
		reported: func() { _ = pair.error.Close() }, ended: func() { _ = pair.data.Close() },
	}
	select {
	case f.connected <- struct{}{}:
		defer func() { <-f.connected }()
		client.connect(ctx, f.dial, pair.port)
	default:
		client.fail(errTooManyForwards)
	}
}
