package stream

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// IsUpgrade reports whether the request asks for a streaming protocol: a WebSocket,
// or SPDY.
func IsUpgrade(r *http.Request) bool { return httpstream.IsUpgradeRequest(r) }

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
