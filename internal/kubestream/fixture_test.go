package kubestream

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

// TestMain gives the goroutines of the SPDY library the moment that some of them
// take to notice the end.
func TestMain(m *testing.M) {
	code := m.Run()
	var leak error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if leak = goleak.Find(); leak == nil {
			os.Exit(code)
		}
	}
	fmt.Fprintln(os.Stderr, leak)
	os.Exit(1)
}

// hijackable is the answer to a request that was read from conn.
type hijackable struct {
	http.ResponseWriter

	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// accept answers an upgrade on conn with the protocol.
func accept(t testing.TB, conn net.Conn, protocol string) *websocket.Conn {
	t.Helper()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		t.Error(err)
		return nil
	}
	upgrader := websocket.Upgrader{}
	upgraded, err := upgrader.Upgrade(hijackable{httptest.NewRecorder(), conn}, request, http.Header{"Sec-Websocket-Protocol": {protocol}})
	if err != nil {
		t.Error(err)
	}
	return upgraded
}

// upgrade asks for the protocol on conn. It also returns the body of the answer.
func upgrade(ctx context.Context, conn net.Conn, protocol string, heartbeat Heartbeat) (*Socket, string, error) {
	dialer := websocket.Dialer{
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Subprotocols:   []string{protocol},
	}
	socket, response, err := Upgrade(ctx, dialer, "ws://server/exec", http.Header{}, heartbeat)
	if response == nil {
		return socket, "", err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return socket, string(body), err
}

// pair returns the two ends of an upgraded connection without any buffer.
func pair(t testing.TB, protocol string, heartbeat Heartbeat) (*Socket, *websocket.Conn) {
	t.Helper()
	near, far := net.Pipe()
	accepted := make(chan *websocket.Conn, 1)
	go func() { accepted <- accept(t, far, protocol) }()
	socket, _, err := upgrade(t.Context(), near, protocol, heartbeat)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(socket.Cut)
	server := <-accepted
	t.Cleanup(func() { _ = server.Close() })
	return socket, server
}

// drain reads whatever the client sends, and with it answers pings.
func drain(server *websocket.Conn) {
	for {
		_, reader, err := server.NextReader()
		if err == nil {
			_, err = io.Copy(io.Discard, reader)
		}
		if err != nil {
			return
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// acceptKey is what a server must answer to prove that it speaks WebSocket.
func acceptKey(request *http.Request) string {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + guid))
	return base64.StdEncoding.EncodeToString(sum[:])
}
