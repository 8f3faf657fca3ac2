package stream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/spdyframe"
)

// dialWebSocket opens a WebSocket, without a library that knows channels.
func dialWebSocket(t testing.TB, s *httptest.Server, protocol string) (*websocket.Conn, http.Header) {
	t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: trust(s), Subprotocols: []string{protocol}, WriteBufferSize: 16}
	conn, response, err := dialer.Dial(strings.Replace(s.URL, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	return conn, response.Header
}

// dialSPDY opens a SPDY connection, without a library that knows the streams of exec.
func dialSPDY(t testing.TB, s *httptest.Server, protocol string) httpstream.Connection {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(clientConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, serverURL(t, s)).Dial(protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func openStream(t testing.TB, conn httpstream.Connection, name string) httpstream.Stream {
	t.Helper()
	stream, err := conn.CreateStream(http.Header{"Streamtype": {name}})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// echoLine sends back the first five bytes of its input, and exits with a failure.
func echoLine(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
	line := make([]byte, 5)
	_, _ = io.ReadFull(streams.Stdin, line)
	fmt.Fprintf(streams.Stdout, "%s", line)
	return &metav1.Status{Status: metav1.StatusFailure, Message: "it failed"}
}

func TestWebSocketDialects(t *testing.T) {
	const status = `{"metadata":{},"status":"Failure","message":"it failed"}`
	tests := map[string]struct {
		input string
		kind  int
		want  []string
	}{
		"v5.channel.k8s.io": {"\x00hello", websocket.BinaryMessage, []string{"\x01", "\x01hello", "\x03" + status}},
		"v4.channel.k8s.io": {"\x00hello", websocket.BinaryMessage, []string{"\x01", "\x01hello", "\x03" + status}},
		"v4.base64.channel.k8s.io": {"0aGVsbG8=", websocket.TextMessage, []string{
			"1", "1aGVsbG8=", "3eyJtZXRhZGF0YSI6e30sInN0YXR1cyI6IkZhaWx1cmUiLCJtZXNzYWdlIjoiaXQgZmFpbGVkIn0=",
		}},
		"channel.k8s.io":        {"\x00hello", websocket.BinaryMessage, []string{"\x01", "\x01hello", "\x03it failed"}},
		"base64.channel.k8s.io": {"0aGVsbG8=", websocket.TextMessage, []string{"1", "1aGVsbG8=", "3aXQgZmFpbGVk"}},
	}
	for protocol, tc := range tests {
		t.Run(protocol, func(t *testing.T) {
			s := execServer(t, standard, ExecOptions{Stdin: true, Stdout: true}, echoLine)
			conn, header := dialWebSocket(t, s, protocol)
			if got := header.Get("Sec-WebSocket-Protocol"); got != protocol {
				t.Errorf("subprotocol %q, want %q", got, protocol)
			}
			if err := conn.WriteMessage(tc.kind, []byte(tc.input)); err != nil {
				t.Fatal(err)
			}
			got, err := readMessages(conn, tc.kind)
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("ended with %v, want a normal closure", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func readMessages(conn *websocket.Conn, want int) (messages []string, err error) {
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			return messages, err
		}
		if kind != want {
			return messages, fmt.Errorf("message of kind %d", kind)
		}
		messages = append(messages, string(message))
	}
}

// TestFragmentedInputIsOneMessage has a client that cuts messages after 16 bytes. Only
// the first part names the channel.
func TestFragmentedInputIsOneMessage(t *testing.T) {
	input := strings.Repeat("0123456789", 10)
	s := execServer(t, standard, ExecOptions{Stdin: true, Stdout: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		all, _ := io.ReadAll(streams.Stdin)
		fmt.Fprintf(streams.Stdout, "%s", all)
		return success()
	})
	conn, _ := dialWebSocket(t, s, "v5.channel.k8s.io")
	for _, message := range []string{"\x00" + input, "", "\x07no such channel", "\xff\x00"} {
		if err := conn.WriteMessage(websocket.BinaryMessage, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := readMessages(conn, websocket.BinaryMessage)
	if len(got) != 3 || got[1] != "\x01"+input {
		t.Errorf("messages %q, want the input on channel 1", got)
	}
}

func TestInputCutOffIsNotItsEnd(t *testing.T) {
	begun, result := make(chan struct{}, 3), make(chan error, 1) // begun has room for all runs
	s := execServer(t, standard, ExecOptions{Stdin: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		begun <- struct{}{}
		_, err := io.ReadAll(streams.Stdin)
		result <- err
		return success()
	})
	t.Run("on a websocket", func(t *testing.T) {
		conn, _ := dialWebSocket(t, s, "v5.channel.k8s.io")
		if _, _, err := conn.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		<-begun
		_ = conn.Close()
		if err := <-result; err != io.ErrUnexpectedEOF { //nolint:errorlint // exactly this one
			t.Errorf("stdin ended with %v", err)
		}
	})
	t.Run("by a reset on SPDY", func(t *testing.T) {
		conn := dialSPDY(t, s, "v4.channel.k8s.io")
		openStream(t, conn, "error")
		stdin := openStream(t, conn, "stdin")
		fmt.Fprint(stdin, "half")
		<-begun
		if err := stdin.Reset(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != io.ErrUnexpectedEOF { //nolint:errorlint // exactly this one
			t.Errorf("stdin ended with %v", err)
		}
	})
	t.Run("on SPDY", func(t *testing.T) {
		proxy := through(t, s)
		conn := dialSPDY(t, s, "v4.channel.k8s.io")
		openStream(t, conn, "error")
		stdin := openStream(t, conn, "stdin")
		if _, err := stdin.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		<-begun // a command whose client is gone by then does not run
		proxy.close()
		if err := <-result; err != io.ErrUnexpectedEOF { //nolint:errorlint // exactly this one
			t.Errorf("stdin ended with %v", err)
		}
	})
}

func TestSPDYDialects(t *testing.T) {
	tests := map[string]string{
		"channel.k8s.io":    "it failed",
		"v2.channel.k8s.io": "it failed",
		"v3.channel.k8s.io": "it failed",
		"v4.channel.k8s.io": `{"metadata":{},"status":"Failure","message":"it failed"}`,
	}
	for protocol, want := range tests {
		t.Run(protocol, func(t *testing.T) {
			s := execServer(t, standard, ExecOptions{Stdin: true, Stdout: true}, echoLine)
			conn := dialSPDY(t, s, protocol)
			problems, stdin, stdout := openStream(t, conn, "error"), openStream(t, conn, "stdin"), openStream(t, conn, "stdout")
			fmt.Fprint(stdin, "hello")
			output, _ := io.ReadAll(stdout)
			status, _ := io.ReadAll(problems)
			if diff := cmp.Diff([]string{"hello", want}, []string{string(output), string(status)}); diff != "" {
				t.Errorf("streams (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunWaitsForAllStreams(t *testing.T) {
	s := execServer(t, quick, ExecOptions{Stdout: true}, func(context.Context, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
		t.Error("the command ran without its streams")
		return success()
	})
	conn := dialSPDY(t, s, "v4.channel.k8s.io")
	openStream(t, conn, "error")
	<-conn.CloseChan()
}

func TestStreamsThatAreNotAskedForAreRefused(t *testing.T) {
	s := execServer(t, standard, ExecOptions{Stdin: true, Stdout: true}, echoLine)
	conn := dialSPDY(t, s, "v4.channel.k8s.io")
	for _, name := range []string{"stderr", "resize", "nonsense"} {
		if _, err := conn.CreateStream(http.Header{"Streamtype": {name}}); err == nil {
			t.Errorf("stream %s was taken", name)
		}
	}
}

func TestHeadersSetBeforeArePartOfTheAnswer(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Connpool-Lease", "warm")
		ServeExec(w, r, ExecOptions{Stdin: true, Stdout: true}, echoLine)
	})
	_, header := dialWebSocket(t, s, "v5.channel.k8s.io")
	if got := header.Get("X-Connpool-Lease"); got != "warm" {
		t.Errorf("websocket: header %q", got)
	}
	r, err := http.NewRequest(http.MethodPost, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}}
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got := response.Header.Get("X-Connpool-Lease"); got != "warm" || response.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("SPDY: status %d, header %q", response.StatusCode, got)
	}
}

func FuzzSizes(f *testing.F) {
	f.Add([]byte(`{"Width":80,"Height":24}`+"\n"), 3)
	f.Add([]byte(`{"Width":-1}{"Width":"x"}[]null 7`), 1)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		s := newSizes()
		cut = min(max(cut, 0), len(text))
		for _, part := range [][]byte{text[:cut], text[cut:]} {
			if n, err := s.Write(part); n != len(part) || err != nil {
				t.Fatalf("Write = %d, %v, want %d", n, err, len(part))
			}
		}
		if len(s.pending) > 2*maxSizeBytes {
			t.Errorf("%d bytes kept", len(s.pending))
		}
	})
}

func FuzzFramesArriveWhole(f *testing.F) {
	f.Add([]byte("hello"), uint8(3), uint8(200))
	f.Fuzz(func(t *testing.T, payload []byte, step, more uint8) {
		var stream []byte
		for range 3 {
			stream = append(stream, 0, 0, 0, 1, 0, 0, byte(len(payload)>>8), byte(len(payload)))
			stream = append(stream, payload...)
		}
		if len(payload) > 0xffff {
			return
		}
		var pieces [][]byte
		out := &frames{writer: writerFunc(func(p []byte) (int, error) {
			pieces = append(pieces, bytes.Clone(p))
			return len(p), nil
		})}
		for frame := range bytesInTurn(stream, 8+len(payload)) {
			for part := range bytesInTurn(frame, int(step)+1) {
				_, _ = out.Write(part)
			}
		}
		if len(pieces) != 3 || !bytes.Equal(bytes.Join(pieces, nil), stream) {
			t.Errorf("%d pieces, want the 3 frames", len(pieces))
		}
		in := &frames{reader: bytes.NewReader(append(stream, 0, 0, 0, 1, 0, more, 0, 0)), ponged: func(uint32) {}}
		_, err := io.ReadAll(in)
		if tooLong := int(more)<<16 > spdyframe.MaxBytes; (err == spdyframe.ErrTooLong) != tooLong { //nolint:errorlint // exactly this one
			t.Errorf("error %v, want refused %t", err, tooLong)
		}
	})
}

// bytesInTurn yields p in parts of n bytes.
func bytesInTurn(p []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(p) > 0 {
			part := p[:min(n, len(p))]
			if p = p[len(part):]; !yield(part) {
				return
			}
		}
	}
}

func FuzzDispatch(f *testing.F) {
	f.Add("v5.channel.k8s.io", []byte("\xff\x00"))
	f.Add("base64.channel.k8s.io", []byte("0aGVsbG8="))
	f.Fuzz(func(t *testing.T, protocol string, message []byte) {
		socket := &webSocket{protocol: protocol}
		var got bytes.Buffer
		_ = socket.dispatch(bytes.NewReader(message), channels{0: &got})
		if got.Len() > len(message) {
			t.Errorf("%d bytes from a message of %d", got.Len(), len(message))
		}
	})
}
