// Package netfault is a TCP proxy that misbehaves on demand, for tests that cannot make
// the kernel of their machine drop packets.
//
//	proxy, err := netfault.Start(target, netfault.Options{RoundTrip: 50 * time.Millisecond})
//	defer proxy.Close()
//	// dial proxy.Addr instead of target
//	proxy.Set(netfault.DropReplies)
//
// A delay does not reduce the bandwidth: each byte waits for half of the round trip,
// while later ones are read already. The proxy drops data that the kernel has already
// acknowledged. So that is like a path that loses data behind a middlebox, and not like
// a dead local link.
package netfault

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is how the proxy treats connections from now on.
type Fault int

// The faults.
const (
	// None passes everything on.
	None Fault = iota
	// DropBoth drops what both sides send.
	DropBoth
	// DropReplies drops only what the target sends.
	DropReplies
	// Refuse closes new connections at once; live ones are served.
	Refuse
	// Hold accepts new connections and sends nothing; live ones are served.
	Hold
	// Penalize refuses new connections with the text of an sshd that penalizes their
	// address; live ones are served.
	Penalize
)

// penalty is what such an sshd says.
const penalty = "Not allowed at this time\r\n"

// Options change what Start does.
type Options struct {
	// Address to listen on; 127.0.0.1 and a free port when empty.
	Address string
	// RoundTrip is added to the time between a question and its answer.
	RoundTrip time.Duration
}

// Proxy is a running proxy.
type Proxy struct {
	// Addr is the host and port it listens on.
	Addr string

	target   string
	delay    time.Duration
	listener net.Listener
	serving  sync.WaitGroup
	accepted atomic.Int64

	mu     sync.Mutex
	fault  Fault
	closed bool
	conns  map[net.Conn]struct{}
}

// Start starts a proxy to target that runs until Close.
func Start(target string, options Options) (*Proxy, error) {
	address := options.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the proxy: %w", err)
	}
	p := &Proxy{
		Addr: listener.Addr().String(), target: target, delay: options.RoundTrip / 2,
		listener: listener, conns: map[net.Conn]struct{}{},
	}
	p.serving.Go(p.accept)
	return p, nil
}

// Set changes the fault, for live connections too.
func (p *Proxy) Set(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

func (p *Proxy) current() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// Reset cuts all live connections with a TCP reset on both sides.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// Connections counts the sockets of live connections, two for each that is
// connected to the target.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Accepted counts all connections that were made to the proxy so far.
func (p *Proxy) Accepted() int { return int(p.accepted.Load()) }

// Close ends the proxy and its connections, and returns when all have ended.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Reset()
	p.serving.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		if p.track(conn) {
			p.serving.Go(func() { p.serve(conn) })
		}
	}
}

// track keeps a connection until it ends. It reports whether it did: a proxy that is
// closed or refuses connections closes it instead.
func (p *Proxy) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.fault == Refuse {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *Proxy) forget(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *Proxy) serve(client net.Conn) {
	defer p.forget(client)
	switch p.current() {
	case Hold:
		_, _ = client.Read(make([]byte, 1<<16))
		_, _ = client.Read(make([]byte, 1)) // until the client gives up or Reset
		return
	case Penalize:
		_, _ = client.Write([]byte(penalty))
		return
	default:
		p.connect(client)
	}
}

// connect passes data on until either side ends.
func (p *Proxy) connect(client net.Conn) {
	target, err := net.Dial("tcp", p.target)
	if err != nil || !p.track(target) {
		return
	}
	defer p.forget(target)
	var replies sync.WaitGroup
	replies.Go(func() { p.pass(client, target, true) })
	p.pass(target, client, false)
	replies.Wait()
}

// chunk is data and the time of its delivery.
type chunk struct {
	data []byte
	due  time.Time
}

// pass copies one direction until it ends, then ends the other half too.
func (p *Proxy) pass(to, from net.Conn, reply bool) {
	chunks := make(chan chunk, 1024)
	var delivering sync.WaitGroup
	delivering.Go(func() { p.deliver(to, chunks, reply) })
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			chunks <- chunk{buffer[:n], time.Now().Add(p.delay)}
		}
		if err != nil {
			break
		}
	}
	close(chunks)
	delivering.Wait()
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

func (p *Proxy) deliver(to net.Conn, chunks <-chan chunk, reply bool) {
	for next := range chunks {
		time.Sleep(time.Until(next.due))
		if p.drops(reply) {
			continue
		}
		if _, err := to.Write(next.data); err != nil {
			_ = to.Close()
			for range chunks {
			}
			return
		}
	}
}

func (p *Proxy) drops(reply bool) bool {
	fault := p.current()
	return fault == DropBoth || reply && fault == DropReplies
}
