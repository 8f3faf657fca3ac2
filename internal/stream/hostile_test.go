package stream

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream"
	"github.com/moby/spdystream/spdy"
)

// rawSPDY upgrades a request and returns the framer of its connection.
func rawSPDY(t *testing.T, address string, config *tls.Config) (net.Conn, *spdy.Framer) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address, http.NoBody)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io",
	} {
		request.Header.Set(name, value)
	}
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewReader(conn)
	response, err := http.ReadResponse(buffered, request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	framer, err := spdy.NewFramer(conn, buffered)
	if err != nil {
		t.Fatal(err)
	}
	return conn, framer
}

// open returns the frame that opens a stream.
func open(id int, name string) *spdy.SynStreamFrame {
	return &spdy.SynStreamFrame{StreamId: spdy.StreamId(id), Headers: http.Header{streamTypeHeader: {name}}}
}

func write(t *testing.T, framer *spdy.Framer, frames ...spdy.Frame) {
	t.Helper()
	for _, frame := range frames {
		if err := framer.WriteFrame(frame); err != nil {
			t.Fatal(err)
		}
	}
}

// To each of these frames, the SPDY library would respond with a panic, a goroutine or
// much memory.
func TestFramesThatHarmAreNotTaken(t *testing.T) {
	for name, harm := range map[string][]spdy.Frame{
		"a stream number that was used":     {open(1, streamError), open(1, streamStdin)},
		"headers that unfold to a mebibyte": {&spdy.SynStreamFrame{StreamId: 1, Headers: http.Header{"Requestid": {strings.Repeat("a", 1<<20-1)}}}},
		"a thousand headers":                {&spdy.SynStreamFrame{StreamId: 1, Headers: manyHeaders(1000)}},
	} {
		t.Run(name, func(t *testing.T) {
			patient := quick
			patient.open = time.Hour
			s := execServer(t, patient, ExecOptions{Stdin: true}, untilGone(make(chan struct{}), make(chan error, 1)))
			_, framer := rawSPDY(t, s.Listener.Addr().String(), trust(s))
			for _, frame := range harm {
				_ = framer.WriteFrame(frame)
			}
			for pings := 0; pings < 20; {
				frame, err := framer.ReadFrame()
				if err != nil {
					return // the connection was cut
				}
				if _, ok := frame.(*spdy.PingFrame); ok {
					pings++
				}
			}
			t.Error("the connection lives on")
		})
	}
}

func manyHeaders(n int) http.Header {
	headers := http.Header{}
	for i := range n {
		headers.Set(fmt.Sprintf("X%d", i), "")
	}
	return headers
}

func TestSecondAnswerToAPingIsIgnored(t *testing.T) {
	s := execServer(t, quick, ExecOptions{Stdin: true}, untilGone(make(chan struct{}), make(chan error, 1)))
	conn, framer := rawSPDY(t, s.Listener.Addr().String(), trust(s))
	write(t, framer, open(1, streamError), open(3, streamStdin))
	for answered := 0; answered < 3; {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if ping, ok := frame.(*spdy.PingFrame); ok {
			answered++
			for range 100 {
				write(t, framer, ping)
			}
		}
	}
	conn.Close()
}

// While input waits for the command, the server does not read, so it does not see the
// end of the connection.
func TestClientIsMissedThoughItsInputWaits(t *testing.T) {
	for name, connect := range map[string]func(*testing.T, string, *tls.Config) (leave func() error, send func() error){
		"spdy": func(t *testing.T, address string, config *tls.Config) (func() error, func() error) {
			conn, framer := rawSPDY(t, address, config)
			write(t, framer, open(1, streamError), open(3, streamStdin))
			return conn.(*tls.Conn).NetConn().Close, func() error {
				return framer.WriteFrame(&spdy.DataFrame{StreamId: 3, Data: make([]byte, maxMessage)})
			}
		},
		"websocket": func(t *testing.T, address string, config *tls.Config) (func() error, func() error) {
			dialer := websocket.Dialer{TLSClientConfig: config, Subprotocols: []string{"v5.channel.k8s.io"}}
			conn, response, err := dialer.DialContext(t.Context(), "wss://"+address, nil)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			return conn.NetConn().(*tls.Conn).NetConn().Close, func() error {
				return conn.WriteMessage(websocket.BinaryMessage, make([]byte, maxMessage))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			started, cause := make(chan struct{}), make(chan error, 1)
			s := execServer(t, quick, ExecOptions{Stdin: true}, untilGone(started, cause))
			leave, send := connect(t, s.Listener.Addr().String(), trust(s))
			<-started
			var sent atomic.Int64
			sending := make(chan struct{})
			go func() {
				defer close(sending)
				for send() == nil {
					sent.Add(1)
				}
			}()
			awaitStall(&sent)
			if err := leave(); err != nil {
				t.Error(err)
			}
			if err := <-cause; !errors.Is(err, ErrClientGone) {
				t.Errorf("cause %v, want %v", err, ErrClientGone)
			}
			<-sending
		})
	}
}

// The library distributes streams by number to five workers. A worker hangs when a
// stream is reset that was neither accepted nor refused.
func TestResetOfAStreamThatCouldNotBeAcceptedIsTaken(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	accepted := make(chan uint32)
	served := make(chan struct{})
	go func() {
		defer close(served)
		transport := newTransport(far, nil, standard)
		e := newSPDYExec("v4.channel.k8s.io", ExecOptions{Stdin: true})
		conn, err := serveSPDY(testContext(t), &frames{transport: transport, reader: far, writer: refusing{}}, func(c *spdyConn, s *spdystream.Stream) {
			e.accept(c, s)
			accepted <- s.Identifier()
		})
		if err != nil {
			t.Error(err)
			return
		}
		<-conn.running.Done()
		conn.close()
	}()
	framer, err := spdy.NewFramer(near, near)
	if err != nil {
		t.Fatal(err)
	}
	const first, sameWorker = 1, 11
	write(t, framer, open(first, streamError))
	<-accepted
	write(t, framer, &spdy.RstStreamFrame{StreamId: first, Status: spdy.Cancel}, open(sameWorker, streamStdin))
	select {
	case <-accepted:
	case <-time.After(5 * time.Second):
		t.Fatal("the worker is stuck")
	}
	near.Close()
	<-served
}

// refusing is a writer that always fails.
type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, net.ErrClosed }
