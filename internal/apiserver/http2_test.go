package apiserver_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// client2 is a client of HTTP/2 that keeps to no rules.
type client2 struct {
	*http2.Framer

	conn   net.Conn
	block  bytes.Buffer
	header *hpack.Encoder
}

func dial2(t *testing.T, config *tls.Config, settings ...http2.Setting) *client2 {
	t.Helper()
	config.RootCAs, config.NextProtos = env.authority, []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", env.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, http2.ClientPreface)
	c := &client2{Framer: http2.NewFramer(conn, conn), conn: conn}
	c.header = hpack.NewEncoder(&c.block)
	if err := c.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// request returns the header block of a request, whose token kube-apiserver has to review.
func (c *client2) request(method, path string, more ...string) []byte {
	c.block.Reset()
	fields := []string{
		":method", method, ":scheme", "https", ":authority", env.address, ":path", path, "authorization", "Bearer none",
	}
	fields = append(fields, more...)
	for n := 0; n < len(fields); n += 2 {
		_ = c.header.WriteField(hpack.HeaderField{Name: fields[n], Value: fields[n+1], Sensitive: true})
	}
	return bytes.Clone(c.block.Bytes())
}

// begin opens a stream.
func (c *client2) begin(id uint32, block []byte, ended bool) error {
	const most = 16 << 10
	first, rest := block[:min(most, len(block))], block[min(most, len(block)):]
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: ended, EndHeaders: len(rest) == 0})
	for len(rest) > 0 && err == nil {
		part := rest[:min(most, len(rest))]
		rest = rest[len(part):]
		err = c.WriteContinuation(id, len(rest) == 0, part)
	}
	return err
}

func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}

// Whatever a client of HTTP/2 sends, it takes little memory, and others are served.
func TestHostileClientsOfHTTP2TakeNoMemory(t *testing.T) {
	const most = 64 << 20
	long := strings.Repeat("x", 900<<10)
	for name, attack := range map[string]func(t *testing.T, c *client2){
		"rapid reset": func(_ *testing.T, c *client2) {
			for id := uint32(1); id < 100_000; id += 2 {
				if c.begin(id, c.request("GET", execPath), true) != nil || c.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		},
		"continuations without an end": func(_ *testing.T, c *client2) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("GET", execPath)})
			for c.WriteContinuation(1, false, c.request("GET", execPath, "a", long)[:16<<10]) == nil {
			}
		},
		"long headers": func(_ *testing.T, c *client2) {
			for id := uint32(1); id < 100; id += 2 {
				if c.begin(id, c.request("GET", execPath, "a", long), true) != nil {
					return
				}
			}
		},
		"bodies that are not read": func(_ *testing.T, c *client2) {
			for id := uint32(1); id < 1000; id += 2 {
				if c.begin(id, c.request("POST", execPath), false) != nil || c.WriteData(id, false, make([]byte, 16<<10)) != nil {
					return
				}
			}
		},
		"pings": func(_ *testing.T, c *client2) {
			for n := 0; n < 500_000 && c.WritePing(false, [8]byte{}) == nil; n++ {
			}
		},
		"settings": func(_ *testing.T, c *client2) {
			for n := 0; n < 500_000 && c.WriteSettings() == nil; n++ {
			}
		},
		"small windows": func(_ *testing.T, c *client2) {
			for id := uint32(1); id < 1000; id += 2 {
				if c.begin(id, c.request("GET", execPath), true) != nil || c.WriteWindowUpdate(id, 1) != nil {
					return
				}
			}
		},
		"priorities": func(_ *testing.T, c *client2) {
			for id := uint32(1); id < 500_000; id += 2 {
				if c.WritePriority(id, http2.PriorityParam{StreamDep: id + 2}) != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial2(t, &tls.Config{}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			runtime.GC()
			before := inUse()
			attacked := make(chan struct{})
			go func() {
				defer close(attacked)
				_ = c.conn.SetWriteDeadline(time.Now().Add(3 * time.Second)) // the server may take no more
				attack(t, c)
			}()
			peak := before
			for running := true; running; peak = max(peak, inUse()) {
				select {
				case <-attacked:
					running = false
				case <-time.After(5 * time.Millisecond):
				}
			}
			if status, text := send(t, &tls.Config{}, http.MethodGet, "/readyz", nil); status != http.StatusOK {
				t.Errorf("another client is answered %d %s", status, text)
			}
			t.Logf("peak %d KiB", (peak-before)>>10)
			if peak-before > most {
				t.Errorf("it took %d MiB", (peak-before)>>20)
			}
		})
	}
}
