package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/connpool/connpool/internal/driver"
)

// forwardDialers are the ways in which clients forward ports.
var forwardDialers = map[string]func(t testing.TB, s *httptest.Server) httpstream.Dialer{
	"spdy": func(t testing.TB, s *httptest.Server) httpstream.Dialer {
		t.Helper()
		transport, upgrader, err := spdy.RoundTripperFor(clientConfig(s))
		if err != nil {
			t.Fatal(err)
		}
		return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, serverURL(t, s))
	},
	"spdy over websocket": func(t testing.TB, s *httptest.Server) httpstream.Dialer {
		t.Helper()
		dialer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(serverURL(t, s), clientConfig(s))
		if err != nil {
			t.Fatal(err)
		}
		return dialer
	},
}

func serverURL(t testing.TB, s *httptest.Server) *url.URL {
	t.Helper()
	address, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// eachForward runs a test with each client. Connections to the client's local port go
// through the server to dial.
func eachForward(t *testing.T, dial DialFunc, test func(t *testing.T, local string)) {
	t.Helper()
	for name, newDialer := range forwardDialers {
		t.Run(name, func(t *testing.T) {
			s := server(t, func(w http.ResponseWriter, r *http.Request) { ServePortForward(w, r, dial) })
			stop, ready := make(chan struct{}), make(chan struct{})
			forwarder, err := portforward.NewForStreaming(newDialer(t, s), []string{"0:7"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			var client sync.WaitGroup
			client.Go(func() { _ = forwarder.ForwardPorts() })
			defer client.Wait()
			defer close(stop)
			<-ready
			ports, err := forwarder.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			test(t, fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		})
	}
}

// echoServer sends back what it read on each connection. If late, it does so after the
// client has ended its direction.
func echoServer(t testing.TB, late bool) DialFunc {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer func() { _ = conn.Close() }()
				var source io.Reader = conn
				if late {
					all, _ := io.ReadAll(conn)
					source = bytes.NewReader(all)
				}
				_, _ = io.Copy(conn, source)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		connections.Wait()
	})
	return func(ctx context.Context, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
}

func dialTCP(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// echoSequence sends words through conn, ends its direction and checks what returns.
func echoSequence(conn *net.TCPConn, words uint32) error {
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		_, _ = io.Copy(conn, &sequence{words: words})
		_ = conn.CloseWrite()
	})
	var check sequenceChecker
	if _, err := io.Copy(&check, conn); err != nil {
		return err
	}
	if check.next != words {
		return fmt.Errorf("%d words came back, want %d", check.next, words)
	}
	return nil
}

func TestForwardedConnectionEchoesAfterItsInputEnded(t *testing.T) {
	eachForward(t, echoServer(t, true), func(t *testing.T, local string) {
		if err := echoSequence(dialTCP(t, local), tenMiB/10); err != nil {
			t.Error(err)
		}
	})
}

func TestManyConnectionsShareAForward(t *testing.T) {
	eachForward(t, echoServer(t, false), func(t *testing.T, local string) {
		var clients sync.WaitGroup
		for range 50 {
			conn := dialTCP(t, local)
			clients.Go(func() {
				if err := echoSequence(conn, 50_000); err != nil {
					t.Error(err)
				}
			})
		}
		clients.Wait()
	})
}

// openPair opens the streams of one connection.
func openPair(t testing.TB, conn httpstream.Connection, port string) (problems, data httpstream.Stream) {
	t.Helper()
	header := http.Header{}
	header.Set("Port", port)
	header.Set("Requestid", "1")
	header.Set("Streamtype", "error")
	problems, err := conn.CreateStream(header)
	if err != nil {
		t.Fatal(err)
	}
	header.Set("Streamtype", "data")
	data, err = conn.CreateStream(header)
	if err != nil {
		t.Fatal(err)
	}
	return problems, data
}

func TestDialErrorIsOneSentenceOnTheErrorStream(t *testing.T) {
	for name, newDialer := range forwardDialers {
		t.Run(name, func(t *testing.T) {
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				ServePortForward(w, r, func(_ context.Context, port uint16) (net.Conn, error) {
					return nil, &driver.Error{Message: fmt.Sprintf("nothing listens on port %d", port), Err: errors.New("inner")}
				})
			})
			conn, _, err := newDialer(t, s).Dial("portforward.k8s.io")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			problems, data := openPair(t, conn, "81")
			message, _ := io.ReadAll(problems)
			if string(message) != "nothing listens on port 81" {
				t.Errorf("message %q", message)
			}
			if rest, _ := io.ReadAll(data); len(rest) > 0 {
				t.Errorf("data %q, want none", rest)
			}
		})
	}
}

// lateRefusal is a target that refuses the connection only when it is read, as pods do.
type lateRefusal struct{ net.Conn }

func (lateRefusal) Read([]byte) (int, error) {
	return 0, &driver.Error{Message: "nothing listens on port 81 of the pod"}
}
func (lateRefusal) Write(p []byte) (int, error) { return len(p), nil }
func (lateRefusal) Close() error                { return nil }

// The client reads the whole message although it keeps its own direction open.
func TestATargetThatRefusesLateIsExplained(t *testing.T) {
	for name, newDialer := range forwardDialers {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, input open: %t", name, open), func(t *testing.T) {
				s := server(t, func(w http.ResponseWriter, r *http.Request) {
					ServePortForward(w, r, func(context.Context, uint16) (net.Conn, error) { return lateRefusal{}, nil })
				})
				conn, _, err := newDialer(t, s).Dial("portforward.k8s.io")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				problems, data := openPair(t, conn, "81")
				if !open {
					_ = data.Close()
				}
				defer time.AfterFunc(20*time.Second, func() { _ = conn.Close() }).Stop()
				message, _ := io.ReadAll(problems)
				select {
				case <-conn.CloseChan():
					t.Error("the message did not end")
				default:
				}
				if string(message) != "nothing listens on port 81 of the pod" {
					t.Errorf("message %q", message)
				}
			})
		}
	}
}

// Each connection may hold megabytes, so the number for one request is bounded.
func TestAForwardHasABoundedNumberOfConnections(t *testing.T) {
	for name, newDialer := range forwardDialers {
		t.Run(name, func(t *testing.T) {
			dial := echoServer(t, false)
			s := server(t, func(w http.ResponseWriter, r *http.Request) { ServePortForward(w, r, dial) })
			conn, _, err := newDialer(t, s).Dial("portforward.k8s.io")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			var open []httpstream.Stream
			for n := range maxForwards {
				_, data := openNumbered(t, conn, n)
				echoed(t, data)
				open = append(open, data)
			}
			problems, _ := openNumbered(t, conn, maxForwards)
			message, _ := io.ReadAll(problems)
			if !strings.Contains(string(message), "128 connections") || !strings.Contains(string(message), "close one") {
				t.Errorf("message %q", message)
			}
			_ = open[0].Close()
			if _, err := io.ReadAll(open[0]); err != nil {
				t.Error(err)
			}
			for n := maxForwards + 1; ; n++ {
				problems, data := openNumbered(t, conn, n)
				_, _ = data.Write([]byte("x"))
				if message, _ := io.ReadAll(io.LimitReader(data, 1)); string(message) == "x" {
					return
				}
				if message, _ := io.ReadAll(problems); !strings.Contains(string(message), "128 connections") {
					t.Fatalf("message %q", message)
				}
			}
		})
	}
}

func openNumbered(t testing.TB, conn httpstream.Connection, n int) (problems, data httpstream.Stream) {
	t.Helper()
	header := http.Header{"Port": {"7"}, "Requestid": {strconv.Itoa(n)}, "Streamtype": {"error"}}
	problems, err := conn.CreateStream(header)
	if err != nil {
		t.Fatal(err)
	}
	header.Set("Streamtype", "data")
	if data, err = conn.CreateStream(header); err != nil {
		t.Fatal(err)
	}
	return problems, data
}

// echoed checks that a connection works.
func echoed(t testing.TB, data io.ReadWriter) {
	t.Helper()
	_, _ = data.Write([]byte("x"))
	if _, err := io.ReadFull(data, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestForwardEndsWithTheRequest(t *testing.T) {
	for name, newDialer := range forwardDialers {
		t.Run(name, func(t *testing.T) {
			dial := echoServer(t, false)
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				ctx, end := context.WithCancel(r.Context())
				ServePortForward(w, r.WithContext(ctx), func(ctx context.Context, port uint16) (net.Conn, error) {
					defer end()
					return dial(ctx, port)
				})
			})
			conn, _, err := newDialer(t, s).Dial("portforward.k8s.io")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			header := http.Header{"Port": {"1"}, "Streamtype": {"error"}, "Requestid": {"1"}}
			if _, err := conn.CreateStream(header); err != nil {
				t.Fatal(err)
			}
			header.Set("Streamtype", "data")
			_, _ = conn.CreateStream(header)
			<-conn.CloseChan()
		})
	}
}

func TestIncompletePairIsGivenUp(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) { quick.servePortForward(w, r, echoServer(t, false)) })
	conn, _, err := forwardDialers["spdy"](t, s).Dial("portforward.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	lone, err := conn.CreateStream(http.Header{"Port": {"1"}, "Streamtype": {"data"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(lone); err != nil {
		t.Error(err)
	}
}

func TestPortsAsChannels(t *testing.T) {
	echo := echoServer(t, false)
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		ServePortForward(w, r, func(ctx context.Context, port uint16) (net.Conn, error) {
			if port == 81 {
				return nil, &driver.Error{Message: "nothing listens there"}
			}
			return echo(ctx, port)
		})
	})
	dialer := websocket.Dialer{TLSClientConfig: trust(s), Subprotocols: []string{"v4.channel.k8s.io"}}
	conn, response, err := dialer.Dial(strings.Replace(s.URL, "https", "wss", 1)+"?ports=80&ports=81", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	defer func() { _ = conn.Close() }()
	if err := conn.WriteMessage(websocket.BinaryMessage, []byte("\x00hello")); err != nil {
		t.Fatal(err)
	}
	want := map[byte]string{0: port(80) + "hello", 1: port(80), 2: port(81), 3: port(81) + "nothing listens there"}
	got := map[byte]string{}
	for got[0] != want[0] || got[3] != want[3] {
		_, message, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got[message[0]] += string(message[1:])
	}
}

func port(n uint16) string { return string(binary.LittleEndian.AppendUint16(nil, n)) }

func TestParsePorts(t *testing.T) {
	tests := map[string]struct {
		values []string
		ok     bool
	}{
		"one port":                       {[]string{"80"}, true},
		"several, in both notations":     {[]string{"80,81", "82"}, true},
		"none":                           {nil, false},
		"port zero":                      {[]string{"0"}, false},
		"a port out of range":            {[]string{"65536"}, false},
		"a name":                         {[]string{"http"}, false},
		"more than channels can number":  {[]string{strings.Repeat("1,", 127) + "1"}, false},
		"as many as channels can number": {[]string{strings.Repeat("1,", 126) + "1"}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parsePorts(tc.values); (err == nil) != tc.ok {
				t.Errorf("error %v, want ok %t", err, tc.ok)
			}
		})
	}
}
