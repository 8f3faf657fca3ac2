package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/connpool/connpool/internal/driver"
)

// blackHole is a proxy that forwards until swallow is set. Then it drops everything,
// while its connections stay open.
type blackHole struct {
	listener net.Listener
	swallow  atomic.Bool
	// heard has a token after the client has sent something.
	heard   chan struct{}
	workers sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// through puts a black hole before the server, and the proxy's address into its URL.
func through(t testing.TB, s *httptest.Server) *blackHole {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &blackHole{listener: listener, heard: make(chan struct{}, 1)}
	target := s.Listener.Addr().String()
	s.URL = strings.Replace(s.URL, target, listener.Addr().String(), 1)
	proxy.workers.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			proxy.forward(client, target)
		}
	})
	t.Cleanup(proxy.close)
	return proxy
}

func (p *blackHole) forward(client net.Conn, target string) {
	upstream, err := net.Dial("tcp", target)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, upstream)
	p.mu.Unlock()
	for _, ends := range [][2]net.Conn{{client, upstream}, {upstream, client}} {
		p.workers.Go(func() {
			_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
				if p.swallow.Load() {
					return len(b), nil
				}
				if ends[0] == client {
					p.hear()
				}
				return ends[1].Write(b)
			}), ends[0])
		})
	}
}

func (p *blackHole) hear() {
	select {
	case p.heard <- struct{}{}:
	default:
	}
}

// close cuts all connections.
func (p *blackHole) close() {
	p.listener.Close()
	p.mu.Lock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.workers.Wait()
}

// untilGone is a command that reports why its context ended.
func untilGone(started chan<- struct{}, cause chan<- error) RunFunc {
	return func(ctx context.Context, _ driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		close(started)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return success()
	}
}

func TestVanishedSPDYClientIsNoticed(t *testing.T) {
	started, cause := make(chan struct{}), make(chan error, 1)
	s := execServer(t, quick, ExecOptions{Stdout: true}, untilGone(started, cause))
	proxy := through(t, s)
	var client sync.WaitGroup
	ctx, cancel := context.WithCancel(testContext(t))
	executor := spdyExecutor(t, s)
	client.Go(func() { _ = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard}) })
	<-started
	for range 16 { // an answer to a ping arrives in a few pieces
		<-proxy.heard
	}
	proxy.swallow.Store(true)
	if err := <-cause; !errors.Is(err, ErrClientGone) {
		t.Errorf("cause %v, want %v", err, ErrClientGone)
	}
	cancel()
	client.Wait()
}

func TestVanishedWebSocketClientIsNoticed(t *testing.T) {
	started, cause := make(chan struct{}), make(chan error, 1)
	s := execServer(t, quick, ExecOptions{Stdout: true}, untilGone(started, cause))
	proxy := through(t, s)
	conn, _ := dialWebSocket(t, s, "v5.channel.k8s.io")
	<-started
	ponged := make(chan struct{})
	conn.SetPongHandler(func(string) error {
		close(ponged)
		return nil
	})
	if err := conn.WriteControl(websocket.PingMessage, nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = readMessages(conn, websocket.BinaryMessage) }()
	<-ponged
	proxy.swallow.Store(true)
	if err := <-cause; !errors.Is(err, ErrClientGone) {
		t.Errorf("cause %v, want %v", err, ErrClientGone)
	}
}

// TestSilentClientThatNeverPingedIsKept has a client that answers pings only when its
// program reads, as some do.
func TestSilentClientThatNeverPingedIsKept(t *testing.T) {
	s := execServer(t, quick, ExecOptions{Stdin: true, Stdout: true}, echoLine)
	conn, _ := dialWebSocket(t, s, "v5.channel.k8s.io")
	pings := 0
	conn.SetPingHandler(func(string) error {
		if pings++; time.Duration(pings)*quick.ping > 3*quick.silence {
			return errors.New("enough")
		}
		return nil
	})
	_, _ = readMessages(conn, websocket.BinaryMessage)
	if err := conn.WriteMessage(websocket.BinaryMessage, []byte("\x00hello")); err != nil {
		t.Fatal(err)
	}
	// The error has spoilt the first reader, so read the rest below it.
	rest, _ := io.ReadAll(conn.NetConn())
	if !strings.Contains(string(rest), "hello") {
		t.Errorf("answer %q, want the echo", rest)
	}
}

func TestSilence(t *testing.T) {
	tests := map[string]struct {
		sendEvery time.Duration
		wouldSend bool
		gone      bool
	}{
		"a client that would send something and does not is gone": {0, true, true},
		"a client that may have reasons for its silence is kept":  {0, false, false},
		"a client that sends often is kept":                       {10 * time.Second, true, false},
		"a client that sends too seldom is gone":                  {20 * time.Second, true, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				transport := newTransport(near, nil, standard)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				context.AfterFunc(ctx, func() { near.Close() })
				go transport.watch(ctx, func() bool { return tc.wouldSend })
				go sendEvery(ctx, far, tc.sendEvery)
				_, _ = io.Copy(io.Discard, transport)
				if gone := ctx.Err() == nil; gone != tc.gone {
					t.Errorf("gone %t, want %t", gone, tc.gone)
				}
			})
		})
	}
}

// sendEvery sends a byte now and then.
func sendEvery(ctx context.Context, conn net.Conn, every time.Duration) {
	if every == 0 {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := conn.Write([]byte{0}); err != nil {
			return
		}
	}
}

// pausing is a reader of output that waits before the first byte until released.
type pausing struct {
	check    sequenceChecker
	released chan struct{}
}

func (p *pausing) Write(b []byte) (int, error) {
	<-p.released
	return p.check.Write(b)
}

func TestSlowReaderHoldsOnlyItsOwnCommand(t *testing.T) {
	const words = 64 << 20 / 4
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		var written atomic.Int64
		s := execServer(t, standard, ExecOptions{Stdout: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			source := io.TeeReader(&sequence{words: words}, writerFunc(func(p []byte) (int, error) {
				written.Add(int64(len(p)))
				return len(p), nil
			}))
			_, _ = io.Copy(streams.Stdout, source)
			return success()
		})
		before := heap()
		output := &pausing{released: make(chan struct{})}
		result := make(chan error, 1)
		executor := dial(t, s)
		go func() {
			result <- executor.StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdout: output})
		}()
		awaitStall(&written)
		if grown := int64(heap()) - int64(before); grown > 8<<20 {
			t.Errorf("%d MiB of memory hold unread output", grown>>20)
		}
		if written.Load() >= words*4 {
			t.Error("the command was not held back")
		}
		close(output.released)
		if err := <-result; err != nil || output.check.next != words {
			t.Errorf("error %v after %d words, want all %d", err, output.check.next, words)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// awaitStall returns when the count has risen, and then has not changed for a while.
func awaitStall(count *atomic.Int64) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for last := int64(-1); ; {
		<-ticker.C
		now := count.Load()
		if now > 0 && now == last {
			return
		}
		last = now
	}
}

func TestClientThatDoesNotReadCannotOutliveTheRequest(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		served := make(chan struct{})
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			ctx, end := context.WithCancel(r.Context())
			defer close(served)
			defer end()
			quick.serveExec(w, r.WithContext(ctx), ExecOptions{Stdout: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				var written atomic.Int64
				go func() {
					awaitStall(&written)
					end()
				}()
				for {
					n, err := streams.Stdout.Write(make([]byte, maxMessage))
					if err != nil {
						return exited("1")
					}
					written.Add(int64(n))
				}
			})
		})
		output := &pausing{released: make(chan struct{})}
		result := make(chan error, 1)
		executor := dial(t, s)
		go func() {
			result <- executor.StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdout: output})
		}()
		<-served
		close(output.released)
		<-result
	})
}

func TestThousandStreamsAtOnce(t *testing.T) {
	const streams = 1000
	var running sync.WaitGroup
	running.Add(streams)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ServeExec(w, r, ExecOptions{Stdin: true, Stdout: true}, func(ctx context.Context, streams driver.Streams, size <-chan driver.WindowSize) *metav1.Status {
			running.Done()
			running.Wait()
			return echoLine(ctx, streams, size)
		})
	}))
	defer s.Close()
	before := runtime.NumGoroutine()
	var clients sync.WaitGroup
	for range streams {
		clients.Go(func() {
			conn, _ := dialWebSocket(t, s, "v5.channel.k8s.io")
			defer func() { _ = conn.Close() }()
			if err := conn.WriteMessage(websocket.BinaryMessage, []byte("\x00hello")); err != nil {
				t.Error(err)
			}
			if got, _ := readMessages(conn, websocket.BinaryMessage); len(got) != 3 || got[1] != "\x01hello" {
				t.Errorf("messages %q", got)
			}
		})
	}
	running.Wait()
	t.Logf("%d goroutines for each stream, the HTTP server's and the client's included", (runtime.NumGoroutine()-before)/streams)
	clients.Wait()
}

func BenchmarkServeExec(b *testing.B) {
	run := func(context.Context, driver.Streams, <-chan driver.WindowSize) *metav1.Status { return success() }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ServeExec(w, r, ExecOptions{Stdout: true}, run)
	}))
	defer s.Close()
	b.Run("websocket v5", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			conn, _ := dialWebSocket(b, s, "v5.channel.k8s.io")
			_, _ = readMessages(conn, websocket.BinaryMessage)
			_ = conn.Close()
		}
	})
	for name, dial := range protocols {
		b.Run("client-go "+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := dial(b, s).StreamWithContext(b.Context(), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("plain request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			response, err := (&http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{}}).RoundTrip(httptest.NewRequest(http.MethodGet, s.URL, nil))
			if err != nil {
				b.Fatal(err)
			}
			response.Body.Close()
		}
	})
}
