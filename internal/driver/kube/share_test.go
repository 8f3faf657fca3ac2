package kube

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// counted counts the sockets that an endpoint has opened, and those that are open.
type counted struct {
	opened, open atomic.Int64

	mu      sync.Mutex // guards what follows
	conns   map[*countedConn]struct{}
	refuses bool
}

func (c *counted) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuses {
		_ = conn.Close()
		return nil, syscall.ECONNREFUSED
	}
	c.opened.Add(1)
	c.open.Add(1)
	if c.conns == nil {
		c.conns = map[*countedConn]struct{}{}
	}
	made := &countedConn{Conn: conn, counted: c}
	c.conns[made] = struct{}{}
	return made, nil
}

// kill cuts all sockets, and refuses new ones. Without that the server would not count
// as dead, because it answers on a new socket at once.
func (c *counted) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuses = true
	for conn := range c.conns {
		_ = conn.Conn.Close()
	}
}

// refuse says whether further dials are refused.
func (c *counted) refuse(refuses bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuses = refuses
}

type countedConn struct {
	net.Conn

	counted *counted
}

func (c *countedConn) Close() error {
	c.counted.mu.Lock()
	if _, open := c.counted.conns[c]; open {
		delete(c.counted.conns, c)
		c.counted.open.Add(-1)
	}
	c.counted.mu.Unlock()
	return c.Conn.Close()
}

func TestAHundredTargetsWithOneKubeconfigShareOneClient(t *testing.T) {
	kube, sockets := New(Options{}), new(counted)
	var conns []driver.Conn
	for range 100 {
		endpoint := admin(t)
		endpoint.Dial = sockets.dial
		conns = append(conns, mustDialOf(t, kube, endpoint))
	}
	shared := conns[0].(*conn).client
	for _, each := range conns {
		if each.(*conn).client != shared {
			t.Fatal("a connection has a client of its own")
		}
	}
	if n := len(kube.clients); n != 1 {
		t.Errorf("%d clients", n)
	}
	eventually(t, func() bool { return sockets.open.Load() == 1+spareSockets })
	for _, each := range conns[1:] {
		_ = each.Close()
	}
	if err := conns[0].Probe(t.Context()); err != nil || shared.ctx.Err() != nil {
		t.Errorf("the last connection: %v", err)
	}
	_ = conns[0].Close()
	if n := len(kube.clients); n != 0 {
		t.Errorf("%d clients are left", n)
	}
	eventually(t, func() bool { return sockets.open.Load() == 0 })
}

func mustDialOf(t testing.TB, kube *Driver, endpoint driver.Endpoint) driver.Conn {
	t.Helper()
	dialer, err := kube.Prepare(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	made, err := dialer.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return made
}

func TestWhatDiffersIsNotShared(t *testing.T) {
	kube := New(Options{})
	first := mustDialOf(t, kube, admin(t)).(*conn)
	user, err := cluster(t).plane.User("sharing")
	if err != nil {
		t.Fatal(err)
	}
	slower := admin(t)
	slower.KeepaliveInterval = time.Minute
	for name, endpoint := range map[string]driver.Endpoint{"other credentials": endpointOf(t, user), "another keepalive": slower} {
		if second := mustDialOf(t, kube, endpoint).(*conn); second.client == first.client {
			t.Errorf("%s: the client is shared", name)
		}
	}
}

func TestADeadClientIsReplacedAndItsConnectionsCanBeClosed(t *testing.T) {
	proxy, endpoint := through(t, admin(t))
	kube := New(Options{})
	first := mustDialOf(t, kube, endpoint).(*conn)
	first.client.end(&driver.Error{Reason: driver.Unreachable, Stage: driver.StageKeepalive, Message: "gone"})
	second := mustDialOf(t, kube, endpoint).(*conn)
	if second.client == first.client {
		t.Fatal("a dead client is used")
	}
	_ = first.Close()
	if err := second.Probe(t.Context()); err != nil || len(kube.clients) != 1 {
		t.Errorf("the new client: %v, of %d", err, len(kube.clients))
	}
	_ = second.Close()
	eventually(t, func() bool { return proxy.Connections() == 0 })
}

func TestACommandOnASpareMakesNoHandshake(t *testing.T) {
	sockets := new(counted)
	endpoint := admin(t)
	endpoint.Dial = sockets.dial
	conn := mustDial(t, Options{}, endpoint)
	for range 5 {
		eventually(t, func() bool { return conn.client.spares.Ready() == spareSockets })
		sockets.refuse(true) // so that only a spare can serve
		if _, err := output(t, conn, driver.Command{Place: web, Argv: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
		sockets.refuse(false)
		if err := conn.Probe(t.Context()); err != nil { // which replaces the spare
			t.Fatal(err)
		}
	}
}

// TestMemoryOfAHundredDifferentClients measures the memory of a client: what is in use
// before and after a hundred of them.
func TestMemoryOfAHundredDifferentClients(t *testing.T) {
	const clients = 100
	kube := New(Options{})
	endpoint := admin(t)
	mustDialOf(t, kube, endpoint) // what all need once
	before := memory()
	goroutines := runtime.NumGoroutine()
	var conns []driver.Conn
	for i := range clients {
		each := endpoint
		each.KeepaliveTimeout += time.Duration(i+1) * time.Millisecond // which makes it another client
		conns = append(conns, mustDialOf(t, kube, each))
	}
	eventually(t, func() bool {
		for _, each := range conns {
			if each.(*conn).client.spares.Ready() < spareSockets {
				return false
			}
		}
		return true
	})
	heap := (memory() - before) / clients / 1024
	t.Logf("%d clients: %d KiB and %.1f goroutines each", clients, heap, float64(runtime.NumGoroutine()-goroutines)/clients)
	if heap > 512 {
		t.Errorf("%d KiB each", heap)
	}
	before = memory()
	for range clients {
		conns = append(conns, mustDialOf(t, kube, endpoint))
	}
	t.Logf("%d more connections of one client: %.1f KiB each", clients, float64(memory()-before)/clients/1024)
}

// memory is what is in use on the heap and the stacks.
func memory() int64 {
	runtime.GC()
	runtime.GC() // the first one frees what pools keep
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}

func BenchmarkExec(b *testing.B) {
	conn := mustDial(b, Options{QPS: 1e6, Burst: 1e6}, admin(b))
	for b.Loop() {
		if _, err := output(b, conn, driver.Command{Place: web, Argv: []string{"true"}}); err != nil {
			b.Fatal(fmt.Errorf("exec: %w", err))
		}
	}
}
