package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/connpool/connpool/internal/kubestream"
)

// IsUpgrade reports whether the request asks for a streaming protocol: a WebSocket,
// or SPDY.
func IsUpgrade(r *http.Request) bool { return httpstream.IsUpgradeRequest(r) }

// TransportOf says in one word how a request comes: json, websocket or spdy.
func TransportOf(r *http.Request) string {
	switch {
	case !IsUpgrade(r):
		return "json"
	case strings.EqualFold(r.Header.Get(httpstream.HeaderUpgrade), "websocket"):
		return "websocket"
	default:
		return "spdy"
	}
}

func isSPDYRequest(r *http.Request) bool {
	return httpstream.IsUpgradeRequest(r) &&
		strings.EqualFold(r.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31)
}

// plainRequest is the message for a request without an upgrade: it says what to send.
func plainRequest(subprotocol string) string {
	return "this is a stream: upgrade over HTTP/1.1 to websocket with the subprotocol " + subprotocol + ", or to SPDY/3.1"
}

// refuse answers with a Status, whose message kubectl and client-go show.
func refuse(w http.ResponseWriter, code int, message string) {
	reason := metav1.StatusReasonBadRequest
	if code == http.StatusForbidden {
		reason = metav1.StatusReasonForbidden
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ //nolint:errchkjson // as in encodeStatus
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure,
		Message:  message,
		Reason:   reason,
		Code:     int32(code),
	})
}

// negotiate returns the first protocol in the client's header that the server speaks.
// If there is none, it refuses the request and returns false.
func negotiate(w http.ResponseWriter, r *http.Request, header string, spoken []string) (string, bool) {
	wanted := strings.Join(r.Header.Values(header), ",")
	for name := range strings.SplitSeq(wanted, ",") {
		if name = strings.TrimSpace(name); slices.Contains(spoken, name) {
			return name, true
		}
	}
	supported := strings.Join(spoken, ", ")
	if strings.TrimSpace(wanted) == "" {
		refuse(w, http.StatusBadRequest, "header "+header+" is missing: name one of "+supported)
		return "", false
	}
	w.Header().Set(httpstream.HeaderAcceptedProtocolVersions, supported)
	refuse(w, http.StatusForbidden, "header "+header+" names no supported protocol: use one of "+supported)
	return "", false
}

// hijacker takes over the connection of a request, as a transport.
type hijacker struct {
	http.ResponseWriter

	limits    limits
	transport *transport
}

// Hijack implements http.Hijacker. The buffers read from the transport, after what the
// HTTP server had read ahead.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	h.transport = newTransport(conn, slices.Clone(ahead), h.limits)
	buffers.Reader.Reset(h.transport)
	return h.transport, buffers, nil
}

// transport is the connection under an upgraded request. It measures the client's
// silence, and it owns the write deadline. There is none until the stream's context
// ends: a client may be slow, and a write that times out spoils the connection.
type transport struct {
	net.Conn // is wire

	wire   *kubestream.Wire
	limits limits
	// ahead is what was read before the upgrade. Only Read uses it.
	ahead []byte
	// over means that the stream's context has ended.
	over atomic.Bool
}

func newTransport(conn net.Conn, ahead []byte, l limits) *transport {
	wire := kubestream.NewWire(conn)
	return &transport{Conn: wire, wire: wire, limits: l, ahead: ahead}
}

func (t *transport) Read(p []byte) (int, error) {
	if len(t.ahead) > 0 {
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}

// Write implements net.Conn. After the end of the stream's context, the client has the
// grace period for each write.
func (t *transport) Write(p []byte) (int, error) {
	if t.over.Load() {
		t.hurry()
	}
	return t.Conn.Write(p)
}

// Close implements net.Conn. It may be called again, and never fails.
func (t *transport) Close() error {
	_ = t.Conn.Close()
	return nil
}

// SetWriteDeadline does nothing: the transport sets the deadline.
func (*transport) SetWriteDeadline(time.Time) error { return nil }

// hurry bounds the pending write and the next one.
func (t *transport) hurry() {
	_ = t.Conn.SetWriteDeadline(time.Now().Add(t.limits.grace))
}

// expireWith makes writes fail that are stuck when ctx has ended. The result undoes
// that.
func (t *transport) expireWith(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), ErrUnread) {
			_ = t.Close()
			return
		}
		t.over.Store(true)
		t.hurry()
	})
}

// watch closes the transport when the client is dead, until ctx ends.
func (t *transport) watch(ctx context.Context, wouldSend func() bool) {
	if t.wire.Watch(ctx.Done(), t.limits.ping/2, t.limits.silence, wouldSend) {
		_ = t.Close()
	}
}

// linger waits until the client has closed the connection, which proves that it has
// read everything. After the end of ctx it waits no longer than the grace period.
// Closing earlier could destroy what the client has not read yet: a reset overtakes
// data.
func (t *transport) linger(ctx context.Context, closed <-chan struct{}) {
	select {
	case <-closed:
		return
	case <-ctx.Done():
	}
	select {
	case <-closed:
	case <-time.After(t.limits.grace):
	}
}
