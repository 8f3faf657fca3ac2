package netfault

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echoServer returns the address of a server that sends everything back.
func echoServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, options Options) (*Proxy, *net.TCPConn) {
	t.Helper()
	proxy, err := Start(echoServer(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy, connect(t, proxy)
}

func connect(t *testing.T, proxy *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// ask returns what comes back for a word, within the time.
func ask(conn net.Conn, within time.Duration) (string, error) {
	if _, err := io.WriteString(conn, "word"); err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(within))
	answer := make([]byte, 4)
	n, err := io.ReadFull(conn, answer)
	return string(answer[:n]), err
}

func TestARoundTripTakesTheDelay(t *testing.T) {
	const delay = 50 * time.Millisecond
	_, conn := dial(t, Options{RoundTrip: delay})
	begin := time.Now()
	if answer, err := ask(conn, 5*time.Second); answer != "word" {
		t.Fatalf("answer %q, error %v", answer, err)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("took %s, want at least %s", took, delay)
	}
}

func TestTheDelayDoesNotReduceTheBandwidth(t *testing.T) {
	_, conn := dial(t, Options{RoundTrip: 100 * time.Millisecond})
	data := make([]byte, 16<<20)
	_, _ = rand.Read(data)
	begin := time.Now()
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back changed, error %v", len(got), err)
	}
	// Were each chunk to wait for the one before it, this would take 51 seconds.
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestDroppedBytesDoNotArriveAndTheConnectionLivesOn(t *testing.T) {
	for name, fault := range map[string]Fault{"both ways": DropBoth, "only replies": DropReplies} {
		t.Run(name, func(t *testing.T) {
			proxy, conn := dial(t, Options{})
			proxy.Set(fault)
			if answer, err := ask(conn, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("answer %q, error %v, want a timeout", answer, err)
			}
			proxy.Set(None)
			if answer, err := ask(conn, 5*time.Second); answer != "word" {
				t.Errorf("answer %q, error %v", answer, err)
			}
		})
	}
}

func TestResetCutsLiveConnections(t *testing.T) {
	proxy, conn := dial(t, Options{})
	if _, err := ask(conn, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	proxy.Reset()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("error %v, want a reset", err)
	}
}

func TestNewConnectionsAreRefusedOrHeldWhileLiveOnesAreServed(t *testing.T) {
	proxy, live := dial(t, Options{})
	if _, err := ask(live, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	proxy.Set(Refuse)
	if _, err := ask(connect(t, proxy), 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("refused: error %v, want an end", err)
	}
	proxy.Set(Hold)
	if _, err := ask(connect(t, proxy), 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("held: error %v, want a timeout", err)
	}
	proxy.Set(Penalize)
	if said, err := io.ReadAll(connect(t, proxy)); string(said) != penalty {
		t.Errorf("penalized: %q, error %v, want %q", said, err, penalty)
	}
	if answer, err := ask(live, 5*time.Second); answer != "word" {
		t.Errorf("live: answer %q, error %v", answer, err)
	}
	if n := proxy.Accepted(); n != 4 {
		t.Errorf("%d connections accepted, want 4", n)
	}
}
