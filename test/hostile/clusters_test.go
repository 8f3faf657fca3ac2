package hostile

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream/spdy"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// byClusters are the attacks by the API servers that a tenant has added as targets.
func byClusters() []attack {
	return []attack{
		{"a cluster's headers of a forwarded port", "250 values of 1 MiB, compressed", clusterSends(headers)},
		{"a cluster's frames, unread", "60 frames of 8 MiB", clusterSends(largeFrames)},
		{"a cluster that opens streams", "250,000 of 18 bytes", clusterSends(opening)},
		{"a cluster's answer without an end", "gigabytes of JSON to every question", endlessAnswers},
	}
}

// clusterSends forwards a port of a pod in a cluster that sends this once the
// connection is upgraded.
func clusterSends(send func(to io.Writer)) func(*testing.T, tenant) {
	return func(t *testing.T, attacker tenant) {
		upgraded := make(chan struct{}, 16)
		server := serveCluster(t, func(w http.ResponseWriter, r *http.Request) {
			if !websocket.IsWebSocketUpgrade(r) { // the operator looks whether the pod runs
				_, _ = io.WriteString(w, `{"status": {"phase": "Running"}}`)
				return
			}
			upgrader := websocket.Upgrader{Subprotocols: websocket.Subprotocols(r)}
			socket, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer socket.Close() //nolint:errcheck // the operator may have closed it
			_ = socket.SetWriteDeadline(time.Now().Add(attackTime))
			send(&messages{socket})
			upgraded <- struct{}{}
			<-t.Context().Done()
		})
		attacker.addCluster(t, "evil", server)
		attacker.ready(t, "evil", 30*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), attackTime)
		defer cancel()
		forwarder, err := attacker.client(t).Pool(attacker.namespace, "evil").
			ForwardPod(ctx, "evil", types.NamespacedName{Namespace: "default", Name: "pod"}, 80)
		if err != nil {
			t.Fatal(err)
		}
		defer forwarder.Close()
		if conn, err := forwarder.Dial(ctx); err == nil {
			defer conn.Close()
		}
		select {
		case <-upgraded:
			meanwhile(t)
		case <-ctx.Done():
			t.Error("the operator has not asked the cluster")
		}
	}
}

// attackTime is how long an attack of a cluster may take. To compress hundreds of megabytes
// takes the race detector most of a minute on a busy machine.
const attackTime = 3 * time.Minute

// messages writes a stream as binary messages of a WebSocket.
type messages struct{ socket *websocket.Conn }

func (m *messages) Write(p []byte) (int, error) {
	if err := m.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// inPieces sends bytes in messages as large as those of Kubernetes.
func inPieces(to io.Writer, text []byte) {
	for len(text) > 0 {
		n := min(len(text), 32<<10)
		if _, err := to.Write(text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

func headers(to io.Writer) {
	var wire bytes.Buffer
	framer, err := spdy.NewFramer(&wire, nil)
	if err != nil {
		return
	}
	large := http.Header{}
	for i := range 250 {
		large.Set("x-"+strconv.Itoa(i), strings.Repeat("a", mebi))
	}
	if framer.WriteFrame(&spdy.HeadersFrame{StreamId: 1, Headers: large}) == nil {
		inPieces(to, wire.Bytes())
	}
}

func largeFrames(to io.Writer) {
	frame := append([]byte{0, 0, 0, 3, 0, 8 << 4, 0, 0}, make([]byte, 8*mebi)...)
	for range 60 {
		inPieces(to, frame)
	}
}

func opening(to io.Writer) {
	var wire bytes.Buffer
	framer, err := spdy.NewFramer(&wire, nil)
	if err != nil {
		return
	}
	for range 250_000 {
		if framer.WriteFrame(&spdy.SynStreamFrame{StreamId: 1, Headers: http.Header{}}) != nil {
			return
		}
	}
	inPieces(to, wire.Bytes())
}

// serveCluster starts an API server that is Ready, and whose pods answer by the handler.
func serveCluster(t *testing.T, pods http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"major":"1","minor":"34","gitVersion":"v1.34.0"}`)
	})
	mux.HandleFunc("/api/v1/namespaces/default/pods/", pods)
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.CloseClientConnections)
	return server
}

// addCluster makes a target and a pool of a cluster.
func (n tenant) addCluster(t *testing.T, name string, server *httptest.Server) {
	t.Helper()
	file := clientcmdapi.NewConfig()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	file.Clusters["c"] = &clientcmdapi.Cluster{Server: server.URL, CertificateAuthorityData: authority}
	file.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "token"}
	file.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	file.CurrentContext = "x"
	text, err := clientcmd.Write(*file)
	if err != nil {
		t.Fatal(err)
	}
	n.secret(t, name, map[string][]byte{"kubeconfig": text})
	n.create(t, n.clusterTarget(name), n.poolOf(name, name))
}

// endlessAnswers has targets whose every answer is a body without an end.
func endlessAnswers(t *testing.T, attacker tenant) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, endless{})
	}))
	t.Cleanup(server.CloseClientConnections)
	for i := range 4 {
		attacker.addCluster(t, "evil-"+strconv.Itoa(i), server)
	}
	meanwhile(t)
}
