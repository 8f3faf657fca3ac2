package stream

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream/spdy"

	"github.com/connpool/connpool/internal/spdyframe"
)

// A client can send data on every stream, and its command reads none of it.
func TestUnreadDataOfAllStreamsIsBounded(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	e := newSPDYExec("v4.channel.k8s.io", ExecOptions{Stdin: true, Stdout: true, Stderr: true})
	conn, err := serveSPDY(testContext(t), &frames{transport: newTransport(far, nil, standard), reader: far, writer: io.Discard}, e.accept)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	framer, err := spdy.NewFramer(near, near)
	if err != nil {
		t.Fatal(err)
	}
	for n, name := range []string{streamError, streamStdin, streamStdout, streamStderr} {
		write(t, framer, open(2*n+1, name))
	}
	<-e.complete
	var sent atomic.Int64
	go func() {
		for id := 1; ; id = id%7 + 2 {
			if framer.WriteFrame(&spdy.DataFrame{StreamId: spdy.StreamId(id), Data: make([]byte, maxMessage)}) != nil {
				return
			}
			sent.Add(1)
		}
	}()
	awaitStall(&sent)
	if bytes := sent.Load() * maxMessage; bytes > unreadLimit+maxMessage {
		t.Errorf("%d KiB were taken", bytes>>10)
	}
}

// What a client sends without reading the answers must not pile up.
func TestFloodsTakeNoMemory(t *testing.T) {
	const most = 32 << 20
	forever := func(t *testing.T, conn net.Conn, next func(n int) []byte) (stop func()) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := 0; ; n++ {
				if _, err := conn.Write(next(n)); err != nil {
					return
				}
			}
		}()
		return func() {
			_ = conn.Close()
			<-done
		}
	}
	control := func(kind uint16, words ...uint32) []byte {
		frame := binary.BigEndian.AppendUint16([]byte{0x80, 3}, kind)
		frame = binary.BigEndian.AppendUint32(frame, uint32(4*len(words)))
		for _, word := range words {
			frame = binary.BigEndian.AppendUint32(frame, word)
		}
		return frame
	}
	settings := make([]uint32, 1+2*16_000)
	settings[0] = 16_000
	shorter := make([]uint32, 1+2*2_000)
	shorter[0] = 2_000
	data := make([]byte, spdyframe.HeaderBytes+maxMessage)
	binary.BigEndian.PutUint32(data, 9)
	binary.BigEndian.PutUint32(data[4:], maxMessage)
	spdyFlood := func(next func(n int) []byte) func(*testing.T, string, *tls.Config) func() {
		return func(t *testing.T, address string, config *tls.Config) func() {
			conn, framer := rawSPDY(t, address, config)
			write(t, framer, open(1, streamError), open(3, streamStdin))
			return forever(t, conn, next)
		}
	}
	webSocketFlood := func(next []byte) func(*testing.T, string, *tls.Config) func() {
		return func(t *testing.T, address string, config *tls.Config) func() {
			dialer := websocket.Dialer{TLSClientConfig: config, Subprotocols: []string{"v5.channel.k8s.io"}}
			conn, response, err := dialer.DialContext(t.Context(), "wss://"+address, nil)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			return forever(t, conn.NetConn(), func(int) []byte { return next })
		}
	}
	for name, flood := range map[string]func(*testing.T, string, *tls.Config) (stop func()){
		"SPDY: pings":         spdyFlood(func(n int) []byte { return control(uint16(spdyframe.Ping), uint32(2*n+1)) }),
		"SPDY: long settings": spdyFlood(func(int) []byte { return control(4, settings...) }),
		"SPDY: settings behind pings": spdyFlood(func(n int) []byte {
			if n < 100_000 {
				return control(uint16(spdyframe.Ping), uint32(2*n+1))
			}
			return control(4, shorter...)
		}),
		"SPDY: resets":                   spdyFlood(func(n int) []byte { return control(3, uint32(2*n+1), 1) }),
		"SPDY: new windows":              spdyFlood(func(n int) []byte { return control(9, uint32(2*n+1), 1) }),
		"SPDY: data for no stream":       spdyFlood(func(int) []byte { return data }),
		"SPDY: empty frames of no kind":  spdyFlood(func(int) []byte { return control(77) }),
		"WebSocket: pings":               webSocketFlood([]byte{0x89, 0x80, 0, 0, 0, 0}),
		"WebSocket: empty messages":      webSocketFlood([]byte{0x82, 0x80, 0, 0, 0, 0}),
		"WebSocket: an endless message":  webSocketFlood(append([]byte{0x02, 0xfe, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, 0xffff)...)),
		"WebSocket: messages of no kind": webSocketFlood([]byte{0x82, 0x82, 0, 0, 0, 0, 77, 77}),
		"WebSocket: a frame of exabytes": webSocketFlood([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			s := execServer(t, quick, ExecOptions{Stdin: true}, untilGone(make(chan struct{}), make(chan error, 1)))
			runtime.GC()
			before := inUse()
			stop := flood(t, s.Listener.Addr().String(), trust(s))
			peak := before
			for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				peak = max(peak, inUse())
			}
			stop()
			t.Logf("%d KiB", int64(peak-before)>>10)
			if peak-before > most {
				t.Errorf("it took %d MiB", (peak-before)>>20)
			}
		})
	}
}

// inUse is the memory of all objects, of dead ones as well until they are collected.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}

// A client that opens streams, and reads no refusal, must wait.
func TestStreamsThatAreOpenedInOrderPileUpNot(t *testing.T) {
	s := execServer(t, quick, ExecOptions{Stdin: true}, untilGone(make(chan struct{}), make(chan error, 1)))
	conn, framer := rawSPDY(t, s.Listener.Addr().String(), trust(s))
	before := runtime.NumGoroutine()
	memory := inUse()
	var sent atomic.Int64
	go func() {
		for id := 1; ; id += 2 {
			header := http.Header{streamTypeHeader: {"none"}}
			if framer.WriteFrame(&spdy.SynStreamFrame{StreamId: spdy.StreamId(id), Headers: header}) != nil {
				return
			}
			sent.Add(1)
		}
	}()
	most := 0
	for deadline := time.Now().Add(500 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		most = max(most, runtime.NumGoroutine()-before)
	}
	took := int64(inUse()-memory) >> 20
	_ = conn.Close()
	t.Logf("%d streams: %d goroutines, %d MiB", sent.Load(), most, took)
	if most > 100 || took > 64 {
		t.Errorf("%d streams took %d goroutines and %d MiB", sent.Load(), most, took)
	}
}
