package kubestream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream/spdy"
)

// maxCost is what a hostile server may make this side allocate over one socket.
const maxCost = 16 << 20

// allocated returns how many bytes a function allocates, also those that are freed.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// tunnelWriter sends each piece of SPDY as one message, until the client is gone.
type tunnelWriter struct{ socket *websocket.Conn }

func (w tunnelWriter) Write(p []byte) (int, error) {
	for part := p; len(part) > 0; {
		n := min(len(part), frameBytes)
		if err := w.socket.WriteMessage(websocket.BinaryMessage, part[:n]); err != nil {
			return 0, err
		}
		part = part[n:]
	}
	return len(p), nil
}

// hostileServer accepts the streams of one connection, and then sends the frames as
// often as it can, at most so often. ended is closed when it can send no more.
func hostileServer(t *testing.T, frames []byte, times int) (socket *Socket, ended chan struct{}) {
	t.Helper()
	socket, server := pair(t, ForwardProtocol, Heartbeat{})
	ended = make(chan struct{})
	framer, err := spdy.NewFramer(tunnelWriter{server}, websocket.JoinMessages(server, ""))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		for opened := 0; opened < 2; {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if stream, ok := frame.(*spdy.SynStreamFrame); ok {
				opened++
				_ = framer.WriteFrame(&spdy.SynReplyFrame{StreamId: stream.StreamId})
			}
		}
		go drain(server)
		_ = server.SetWriteDeadline(time.Now().Add(2 * time.Second))
		for range times {
			if _, err := (tunnelWriter{server}).Write(frames); err != nil {
				return
			}
		}
	}()
	return socket, ended
}

// framed returns frames as the library writes them, behind the reply to both streams.
func framed(t *testing.T, frames ...spdy.Frame) []byte {
	t.Helper()
	var out bytes.Buffer
	framer, err := spdy.NewFramer(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []spdy.StreamId{1, 3} { // the compression has a memory
		_ = framer.WriteFrame(&spdy.SynReplyFrame{StreamId: id})
	}
	out.Reset()
	for _, frame := range frames {
		if err := framer.WriteFrame(frame); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestAHostileServerOfAPortForwardCostsLittleMemory(t *testing.T) {
	unfolding := http.Header{}
	for i := range 40 {
		unfolding.Set("X"+string(rune('a'+i/16))+string(rune('a'+i%16)), strings.Repeat("a", 1<<20-1))
	}
	long := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 3), 8<<20)
	for name, c := range map[string]struct {
		frames []byte
		times  int
	}{
		"headers that unfold to 40 MiB":         {framed(t, &spdy.HeadersFrame{StreamId: 3, Headers: unfolding}), 1},
		"a reply that unfolds to 40 MiB":        {framed(t, &spdy.SynReplyFrame{StreamId: 3, Headers: unfolding}), 1},
		"60 frames of 8 MiB":                    {append(long, make([]byte, 8<<20)...), 60},
		"frames of 128 KiB that are not read":   {framed(t, &spdy.DataFrame{StreamId: 3, Data: make([]byte, 128<<10)}), 1000},
		"a report without an end":               {framed(t, &spdy.DataFrame{StreamId: 1, Data: make([]byte, 1<<10)}), 2000},
		"250,000 streams of the server":         {framed(t, &spdy.SynStreamFrame{StreamId: 1, Headers: http.Header{}}), 250_000},
		"streams of the server that are new":    {framed(t, &spdy.SynStreamFrame{StreamId: 2, Headers: http.Header{}}), 1},
		"data for streams that are not opened":  {framed(t, &spdy.DataFrame{StreamId: 2, Data: make([]byte, 64<<10)}), 1000},
		"a frame that hides others":             {append([]byte{0x80, 3, 0, 3, 0, 0, 0, 0}, long...), 1000},
		"settings that announce a billion more": {[]byte{0x80, 3, 0, 4, 0, 0, 0, 4, 0x3f, 0xff, 0xff, 0xff}, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			socket, ended := hostileServer(t, c.frames, c.times)
			cost := allocated(func() {
				conn, err := DialSingle(t.Context(), socket, "80")
				<-ended
				if err == nil {
					_ = conn.Close()
				}
			})
			t.Logf("%d KiB", cost>>10)
			if cost > maxCost {
				t.Errorf("%d MiB", cost>>20)
			}
		})
	}
}

// What waits for a slow reader is held back, and none of it is lost.
func TestAReaderThatComesLateGetsEverything(t *testing.T) {
	socket, _ := hostileServer(t, framed(t, &spdy.DataFrame{StreamId: 3, Data: bytes.Repeat([]byte("x"), 32<<10)}), 100)
	conn, err := DialSingle(t.Context(), socket, "80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	for deadline := time.Now().Add(10 * time.Second); conn.forwarder.guard.Held() <= window; {
		if time.Now().After(deadline) {
			t.Fatal("nothing came")
		}
		time.Sleep(time.Millisecond)
	}
	if n, err := io.ReadFull(conn, make([]byte, 100*32<<10)); err != nil {
		t.Errorf("%d bytes, error %v", n, err)
	}
	if held := conn.forwarder.guard.Held(); held != 0 {
		t.Errorf("%d bytes count as held", held)
	}
}

func TestTheMessagesOfAHostileServerAreBounded(t *testing.T) {
	fragments := func(server *websocket.Conn) error {
		writer, err := server.NextWriter(websocket.BinaryMessage)
		for err == nil {
			_, err = writer.Write(append([]byte{1}, make([]byte, 4<<10)...))
		}
		return err
	}
	repeated := func(kind int, message []byte) func(*websocket.Conn) error {
		return func(server *websocket.Conn) (err error) {
			for range 20_000 {
				if err = server.WriteMessage(kind, message); err != nil {
					break
				}
			}
			_ = server.Close()
			return err
		}
	}
	status := append([]byte{3}, `{"details":{"causes":[`+strings.Repeat("{},", 300_000)+`{}]}}`...)
	for name, attack := range map[string]func(*websocket.Conn) error{
		"a message in fragments without an end": fragments,
		"a message of 2 MiB":                    repeated(websocket.BinaryMessage, make([]byte, 2<<20)),
		"a status of a mebibyte":                repeated(websocket.BinaryMessage, status),
		"empty messages":                        repeated(websocket.BinaryMessage, nil),
		"channels that do not exist":            repeated(websocket.BinaryMessage, []byte{77, 1, 2, 3}),
		"pings":                                 repeated(websocket.PingMessage, []byte("ping")),
		"answers to pings that were not sent":   repeated(websocket.PongMessage, []byte("99999999999999999999")),
	} {
		t.Run(name, func(t *testing.T) {
			socket, server := pair(t, ExecProtocol, Heartbeat{})
			go drain(server)
			go func() { _ = attack(server) }()
			var err error
			cost := allocated(func() { _, err = Run(t.Context(), socket, Streams{}) })
			t.Logf("%d KiB, error %v", cost>>10, err)
			if cost > maxCost || err == nil {
				t.Errorf("%d MiB, error %v", cost>>20, err)
			}
		})
	}
}

// The server compresses although that was not asked for: a message of 1 MiB would
// become one of 1 GiB.
func TestCompressionThatWasNotAskedForIsRefused(t *testing.T) {
	near, far := net.Pipe()
	bomb := bombMessage()
	go func() {
		request, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		_, _ = io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: "+acceptKey(request)+"\r\nSec-WebSocket-Protocol: "+ExecProtocol+"\r\n"+
			"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\r\n")
		_, _ = far.Write(bomb)
		_ = far.Close()
	}()
	socket, _, err := upgrade(t.Context(), near, ExecProtocol, Heartbeat{})
	if !errors.Is(err, ErrExtension) {
		t.Errorf("error %v, want %v", err, ErrExtension)
	}
	if socket != nil {
		cost := allocated(func() { _, err = Run(t.Context(), socket, Streams{}) })
		t.Errorf("the message cost %d MiB, error %v", cost>>20, err)
	}
}

// bombMessage is a compressed message of stdout with 32 MiB.
func bombMessage() []byte {
	var body bytes.Buffer
	writer, _ := flate.NewWriter(&body, flate.BestCompression)
	for range 32 {
		_, _ = writer.Write(bytes.Repeat([]byte{1}, 1<<20))
	}
	_ = writer.Flush()
	text := body.Bytes()[:body.Len()-4]
	return append(binary.BigEndian.AppendUint64([]byte{0xc2, 127}, uint64(len(text))), text...)
}
