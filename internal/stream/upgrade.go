package stream

import (
	"net/http"

	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// IsUpgrade reports whether the request asks for a streaming protocol:
// a WebSocket, or SPDY.
func IsUpgrade(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) || httpstream.IsUpgradeRequest(r)
}
