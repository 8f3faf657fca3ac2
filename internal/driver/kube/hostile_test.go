package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/internal/driver"
)

// hostile is a server with a good certificate and bad manners. Each attack is made until
// it fails.
type hostile struct {
	// socket answers a request of the socket that a dial proves. When nil, the answer is
	// good.
	socket func(io.Writer) error
	// stream answers a request of the shared HTTP/2 connection.
	stream func(*http2.Framer, uint32) error
}

// start returns the endpoint of the server, which ends with the test.
func (h hostile) start(t *testing.T) driver.Endpoint {
	t.Helper()
	identity := httptest.NewUnstartedServer(http.NotFoundHandler())
	identity.EnableHTTP2 = true
	identity.StartTLS()
	certificate, config := pemOf(identity.Certificate()), identity.TLS.Clone()
	identity.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				defer conn.Close()
				h.serve(conn.(*tls.Conn))
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		serving.Wait()
	})
	client := &rest.Config{Host: "https://" + listener.Addr().String(), BearerToken: "token"}
	client.CAData = certificate
	return endpointOf(t, client)
}

func (h hostile) serve(conn *tls.Conn) {
	if conn.Handshake() != nil {
		return
	}
	reader := bufio.NewReader(conn)
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		h.serveStreams(conn, reader)
		return
	}
	for {
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		if h.socket != nil {
			_ = h.socket(conn)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

func (h hostile) serveStreams(conn net.Conn, reader io.Reader) {
	if _, err := io.ReadFull(reader, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, reader)
	_ = framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if headers, ok := frame.(*http2.HeadersFrame); ok {
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			_ = h.stream(framer, headers.StreamID)
			return
		}
	}
}

// endlessly repeats an attack until it fails.
func endlessly(attack func() error) error {
	for {
		if err := attack(); err != nil {
			return err
		}
	}
}

// headersOf encodes headers for HTTP/2.
func headersOf(fields ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		_ = encoder.WriteField(field)
	}
	return block.Bytes()
}

var ok200 = hpack.HeaderField{Name: ":status", Value: "200"}

// peak returns the highest growth of the heap while f runs. Garbage is collected early,
// so that it hardly counts.
func peak(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	debug.FreeOSMemory()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	first, highest := read(), uint64(0)
	for {
		highest = max(highest, read())
		select {
		case <-done:
			return max(highest, first) - first
		case <-time.After(time.Millisecond):
		}
	}
}

// The certificate, the credentials and the addresses are right: what comes after that
// is a cluster's to choose, and must not cost more than one cluster is worth.
func TestAHostileClusterCostsLittleMemoryAndTime(t *testing.T) {
	chunk := append([]byte("10000\r\n"), append(make([]byte, 64<<10), "\r\n"...)...)
	begin := func(f *http2.Framer, stream uint32, end bool, block []byte) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: end})
	}
	for name, server := range map[string]hostile{
		"a body without an end": {socket: func(w io.Writer) error {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			return endlessly(func() error { _, err := w.Write(chunk); return err })
		}},
		"a header without an end": {socket: func(w io.Writer) error {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nX: ")
			return endlessly(func() error { _, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); return err })
		}},
		"headers without an end": {socket: func(w io.Writer) error {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n")
			return endlessly(func() error { _, err := io.WriteString(w, strings.Repeat("X: y\r\n", 1000)); return err })
		}},
		"preliminary answers without an end": {socket: func(w io.Writer) error {
			return endlessly(func() error { _, err := io.WriteString(w, "HTTP/1.1 103 Early Hints\r\n\r\n"); return err })
		}},
		"settings without an end": {stream: func(f *http2.Framer, _ uint32) error {
			return endlessly(func() error { return f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}) })
		}},
		"pings without an end": {stream: func(f *http2.Framer, _ uint32) error {
			return endlessly(func() error { return f.WritePing(false, [8]byte{1}) })
		}},
		"continuations without an end": {stream: func(f *http2.Framer, stream uint32) error {
			block := headersOf(ok200, hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 8<<10)})
			_ = begin(f, stream, false, block)
			return endlessly(func() error { return f.WriteContinuation(stream, false, block) })
		}},
		"headers that unfold": {stream: func(f *http2.Framer, stream uint32) error {
			block := headersOf(ok200, hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 4000)})
			return begin(f, stream, true, append(block, bytes.Repeat([]byte{0xbe}, 10_000)...)) // the same header again
		}},
		"preliminary headers without an end": {stream: func(f *http2.Framer, stream uint32) error {
			block := headersOf(hpack.HeaderField{Name: ":status", Value: "103"})
			return endlessly(func() error { return begin(f, stream, true, block) })
		}},
		"data without an end": {stream: func(f *http2.Framer, stream uint32) error {
			_ = begin(f, stream, true, headersOf(ok200))
			return endlessly(func() error { return f.WriteData(stream, false, make([]byte, 16<<10)) })
		}},
		"resets of streams that do not exist": {stream: func(f *http2.Framer, _ uint32) error {
			return endlessly(func() error { return f.WriteRSTStream(99, http2.ErrCodeCancel) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if server.stream == nil {
				server.stream = func(f *http2.Framer, stream uint32) error {
					_ = begin(f, stream, true, headersOf(ok200))
					return f.WriteData(stream, true, []byte("{}"))
				}
			}
			endpoint := server.start(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var took time.Duration
			var failed error
			cost := peak(func() {
				begin := time.Now()
				made, err := dialWith(ctx, Options{StageTimeout: time.Second}, endpoint)
				took, failed = time.Since(begin), err
				if err == nil {
					_ = made.Close()
				}
			})
			t.Logf("%d KiB, %s, error %v", cost>>10, took.Round(time.Millisecond), failed)
			if cost > 16<<20 || took > 10*time.Second {
				t.Errorf("%d MiB and %s", cost>>20, took)
			}
			if errors.Is(failed, context.DeadlineExceeded) && ctx.Err() != nil {
				t.Error("the dial did not end by itself")
			}
		})
	}
}
