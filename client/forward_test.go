package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
	"github.com/connpool/connpool/internal/stream"
)

// target is a machine with one service, behind the real server side of
// port-forward.
func target(t testing.TB, serve func(net.Conn)) *Pool {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		stream.ServePortForward(rw, r, func(ctx context.Context, port uint16) (net.Conn, error) {
			switch port {
			case 80:
			case 82:
				return silentPod{}, nil
			default:
				return nil, errors.New("connection refused")
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
		})
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return w.pool(t)
}

func forward(t testing.TB, pool *Pool, address string) *Forwarder {
	t.Helper()
	forwarder, err := pool.Forward(t.Context(), "web-1", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forwarder.Close() })
	return forwarder
}

func dial(t testing.TB, forwarder *Forwarder) net.Conn {
	t.Helper()
	conn, err := forwarder.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func echoService(conn net.Conn) { _, _ = io.Copy(conn, conn) }

// talk sends data, ends its direction, and expects the same data and an end.
func talk(t testing.TB, conn net.Conn, data []byte) {
	t.Helper()
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := conn.Write(data); err != nil {
			t.Error(err)
		}
		closeWrite(conn)
	})
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, then %v", len(got), len(data), err)
	}
	sending.Wait()
}

func TestForwardCarriesManyConnections(t *testing.T) {
	forwarder := forward(t, target(t, echoService), "80")
	var talks sync.WaitGroup
	for n := range 20 {
		talks.Go(func() { talk(t, dial(t, forwarder), bytes.Repeat([]byte{byte(n)}, 100<<10)) })
	}
	talks.Wait()
}

func TestForwardToNothing(t *testing.T) {
	conn := dial(t, forward(t, target(t, echoService), "81"))
	_, err := conn.Read(make([]byte, 1))
	if err == nil || !strings.Contains(err.Error(), "81") || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want to hear why", err)
	}
}

// silentPod is a pod that refuses a connection only when it is read, as pods do.
type silentPod struct{ net.Conn }

func (silentPod) Read([]byte) (int, error) {
	return 0, &driver.Error{Message: "nothing listens on the pod's port"}
}
func (silentPod) Write(p []byte) (int, error) { return len(p), nil }
func (silentPod) Close() error                { return nil }

// A client that keeps its own direction open, as most do, hears why at once.
func TestForwardToAPodWithoutAListenerSaysSoWhileTheInputIsOpen(t *testing.T) {
	conn := dial(t, forward(t, target(t, echoService), "82"))
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "nothing listens on the pod's port") {
		t.Errorf("got %v, want to hear why", err)
	}
}

func TestWhatWasWrittenArrivesAfterClose(t *testing.T) {
	heard := make(chan string, 1)
	conn := dial(t, forward(t, target(t, func(conn net.Conn) {
		text, _ := io.ReadAll(conn)
		heard <- string(text)
	}), "80"))
	if _, err := io.WriteString(conn, "last words"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if got := <-heard; got != "last words" {
		t.Errorf("heard %q", got)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := conn.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// TestClosingAConnectionStopsATargetThatTalksOn has a target that never ends the
// connection by itself.
func TestClosingAConnectionStopsATargetThatTalksOn(t *testing.T) {
	hungUp := make(chan struct{})
	forwarder := forward(t, target(t, func(conn net.Conn) {
		defer close(hungUp)
		for {
			if _, err := conn.Write(make([]byte, 1024)); err != nil {
				return
			}
		}
	}), "80")
	conn := dial(t, forwarder)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-hungUp
	select {
	case <-forwarder.Done():
		t.Error("the forwarder is gone")
	default:
	}
}

func TestADeadlineEndsAForwardedConnection(t *testing.T) {
	forwarder := forward(t, target(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), "80")
	conn := dial(t, forwarder)
	if err := errors.Join(conn.SetDeadline(time.Now().Add(time.Hour)), conn.SetDeadline(time.Time{}), conn.SetReadDeadline(time.Now())); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

func TestClosingTheForwarderEndsItsConnections(t *testing.T) {
	forwarder := forward(t, target(t, echoService), "80")
	conn := dial(t, forwarder)
	forwarder.Close()
	<-forwarder.Done()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read: %v", err)
	}
	if _, err := forwarder.Dial(t.Context()); err == nil {
		t.Error("dialed")
	}
}

func TestForwardServesAListener(t *testing.T) {
	forwarder := forward(t, target(t, echoService), "80")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- forwarder.Serve(ctx, listener, func(err error) { t.Error(err) }) }()
	for range 3 {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		talk(t, conn, []byte("hello"))
		conn.Close()
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("still listens")
	}
}

func TestServeReportsAndEndsWithTheForwarder(t *testing.T) {
	forwarder := forward(t, target(t, echoService), "81")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reported, served := make(chan error, 1), make(chan error, 1)
	go func() { served <- forwarder.Serve(t.Context(), listener, func(err error) { reported <- err }) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := <-reported; !strings.Contains(err.Error(), "81") {
		t.Errorf("reported %v", err)
	}
	forwarder.Close()
	if err := <-served; !errors.Is(err, kubestream.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}

func TestForwardAddresses(t *testing.T) {
	tests := map[string]struct {
		address string
		query   url.Values
		port    string
	}{
		"a port":                        {"5432", url.Values{}, "5432"},
		"a port after a colon":          {":5432", url.Values{}, "5432"},
		"a host and a port":             {"db.internal:5432", url.Values{"host": {"db.internal"}}, "5432"},
		"an IPv6 address and a port":    {"[fd00::1]:53", url.Values{"host": {"fd00::1"}}, "53"},
		"a socket":                      {"/run/docker.sock", url.Values{"socket": {"/run/docker.sock"}}, "1"},
		"a socket with a colon":         {"/run/a:b", url.Values{"socket": {"/run/a:b"}}, "1"},
		"port 0 is refused":             {"0", nil, ""},
		"a port too high is refused":    {"db:65536", nil, ""},
		"a service's name is refused":   {"db:postgres", nil, ""},
		"a host alone is refused":       {"db.internal", nil, ""},
		"nothing is refused":            {"", nil, ""},
		"an unclear address is refused": {"fd00::1:53", nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			query, port, err := forwardQuery(test.address)
			if (err != nil) != (test.query == nil) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(test.query, query); diff != "" || port != test.port {
				t.Errorf("port %q, %s", port, diff)
			}
		})
	}
}

func TestAPodsPortIsNamedInTheQuery(t *testing.T) {
	var query url.Values
	w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
		query = r.URL.Query()
		stream.ServePortForward(rw, r, func(_ context.Context, port uint16) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				_, _ = ours.Write([]byte{byte(port)})
				_ = ours.Close()
			}()
			return theirs, nil
		})
	})
	forwarder, err := w.pool(t).ForwardPod(t.Context(), "prod", types.NamespacedName{Namespace: "web", Name: "web-0"}, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer forwarder.Close()
	if got, err := io.ReadAll(dial(t, forwarder)); err != nil || !bytes.Equal(got, []byte{80}) {
		t.Errorf("got %v, %v", got, err)
	}
	if diff := cmp.Diff(url.Values{"target": {"prod"}, "pod": {"web-0"}, "namespace": {"web"}}, query); diff != "" {
		t.Error(diff)
	}
	for _, refused := range []struct {
		pod  string
		port uint16
	}{{"", 80}, {"web-0", 0}} {
		_, err := w.pool(t).ForwardPod(t.Context(), "prod", types.NamespacedName{Name: refused.pod}, refused.port)
		wantError(t, err, ErrNotStarted)
	}
}
