package exec

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/use"
)

// Of JSON, NUL takes six bytes, and a client may take its time to read the answer.
func TestAnswersFullOfNULDoNotExceedTheMemory(t *testing.T) {
	const limit, clients = 460 << 20, 24
	f := newFixture(t, func(c *use.Config) { c.Limits.Memory = limit })
	defer f.Close()
	f.Web()
	zeros := make([]byte, live.MaxExecOutputBytes)
	f.Fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
		_, _ = streams.Stdout.Write(zeros)
		_, _ = streams.Stderr.Write(zeros)
		return driver.ExitStatus{}, nil
	})
	server := httptest.NewTLSServer(f)
	defer server.Close()
	runtime.GC()
	before, peak := objects(), uint64(0)
	var readers []*bufio.Reader
	for range clients {
		conn, err := (&tls.Dialer{Config: server.Client().Transport.(*http.Transport).TLSClientConfig}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		const body = `{"spec": {"command": ["zeros"]}}`
		_, _ = fmt.Fprintf(conn, "POST /pools/web/exec HTTP/1.1\r\nHost: pools\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		readers = append(readers, bufio.NewReader(conn))
	}
	for deadline := time.Now().Add(3 * time.Second); f.Execs() < clients || time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		peak = max(peak, objects())
	}
	runtime.GC()
	held := objects()
	t.Logf("peak %d MiB, held %d MiB", (peak-before)>>20, (held-before)>>20)
	if held-before > limit/4 || peak-before > limit/2 {
		t.Errorf("%d MiB, then %d MiB are held", (peak-before)>>20, (held-before)>>20)
	}
	for _, reader := range readers {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || bytes.Contains(text, []byte(`\u0000`)) {
			t.Errorf("answered %d with %d bytes: %v", response.StatusCode, len(text), err)
		}
	}
}

// objects is the memory of all objects, of dead ones as well until they are collected.
func objects() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64()
}
