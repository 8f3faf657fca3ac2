package apiserver

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// listen returns a listener whose clients may have a local address of their own.
func listen(t *testing.T) *connections {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newConnections(listener)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// connect returns both ends of a connection from a host.
func (c *connections) connect(t *testing.T, host string) (client net.Conn, server *connection) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	client, err := dialer.DialContext(t.Context(), "tcp", c.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	accepted, err := c.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return client, accepted.(*connection)
}

// isClosed reports whether the server has closed the connection of a client.
func isClosed(client net.Conn) bool {
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := client.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// A host can hold only so many connections without a request. Those with requests, those
// of other hosts, and new ones stay.
func TestConnectionsWithoutARequestAreBoundedByHost(t *testing.T) {
	c := listen(t)
	busy, accepted := c.connect(t, "127.0.0.2")
	done := c.admit(accepted.RemoteAddr().String(), false)
	other, _ := c.connect(t, "127.0.0.3")
	var idle []net.Conn
	for range maxWaitingOfHost + 10 {
		client, _ := c.connect(t, "127.0.0.2")
		idle = append(idle, client)
	}
	for n, client := range idle {
		if surplus := n < 10; surplus != isClosed(client) {
			t.Errorf("connection %d is closed: %t", n, !surplus)
		}
	}
	if isClosed(busy) || isClosed(other) {
		t.Error("a connection with a request, or of another host, is closed")
	}
	done()
	for _, client := range idle {
		_ = client.Close()
	}
	c.connect(t, "127.0.0.2")
	if isClosed(busy) {
		t.Error("a connection that has just had a request was closed before others")
	}
}

func TestConnectionsWithoutARequestAreBounded(t *testing.T) {
	c := listen(t)
	first, _ := c.connect(t, "127.0.0.2")
	for n := range maxWaiting {
		c.connect(t, []string{"127.0.0.3", "127.0.0.4", "127.0.0.5"}[n%3])
	}
	if !isClosed(first) {
		t.Error("there is no bound for all hosts together")
	}
}

func TestNothingIsLeftOfClosedConnections(t *testing.T) {
	c := listen(t)
	_, one := c.connect(t, "127.0.0.2")
	_, two := c.connect(t, "127.0.0.2")
	done := c.admit(two.RemoteAddr().String(), true)
	_ = one.Close()
	_ = one.Close()
	_ = two.Close()
	done()
	c.admit(two.RemoteAddr().String(), true)()
	if len(c.open)+len(c.hosts)+c.waiting.Len() != 0 {
		t.Errorf("%v, %v and %d that wait are left", c.open, c.hosts, c.waiting.Len())
	}
}

// Only a client that uses a connection alone may stop to read.
func TestAClientThatReadsNothingIsCut(t *testing.T) {
	c := listen(t)
	c.unread = 100 * time.Millisecond
	fill := func(server *connection) error {
		_ = server.SetWriteBuffer(1)
		for {
			if _, err := server.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	}
	_, server := c.connect(t, "127.0.0.1")
	if err := fill(server); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ended with %v", err)
	}
	client, patient := c.connect(t, "127.0.0.1")
	done := c.admit(patient.RemoteAddr().String(), true)
	failed := make(chan error, 1)
	go func() { failed <- fill(patient) }()
	select {
	case err := <-failed:
		t.Errorf("a use that is not read ended with %v", err)
	case <-time.After(5 * c.unread):
	}
	done()
	go func() { _, _ = io.CopyN(io.Discard, client, 16<<20) }() // what is in its way
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the use the write ended with %v", err)
	}
}
