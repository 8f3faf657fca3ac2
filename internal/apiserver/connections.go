package apiserver

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// How many connections may be open on which no admitted request runs: they are in their
// handshake, have a client that is not known, or are idle. One of them takes about
// 40 KiB. Beyond, the one that has waited for longest is closed. An honest client waits
// for milliseconds, and kube-apiserver, which sends the requests of all users from one
// address, keeps some dozen idle connections.
const (
	maxWaitingOfHost = 512
	maxWaiting       = 1024
)

// unreadTimeout is how long a client may read nothing at all that is sent to it, but for
// the output of uses. It is also the time in which the answer to anything else must have
// been read.
const unreadTimeout = time.Minute

// keepalive makes the server notice within 15 s that the host of an idle client has
// vanished, so that the client's commands are ended. The user timeout of TCP would
// also cut clients that only do not read for a while.
var keepalive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3}

// connections is a listener that bounds what clients can hold who are not admitted.
type connections struct {
	net.Listener

	unread time.Duration // unreadTimeout, but in tests

	mu sync.Mutex // guards what follows
	// open has all connections, by their remote address.
	open map[string]*connection
	// waiting are those without an admitted request, the one that waits for longest
	// first, and hosts counts them by address.
	waiting list.List
	hosts   map[netip.Addr]int
}

func newConnections(listener net.Listener) *connections {
	return &connections{Listener: listener, unread: unreadTimeout, open: map[string]*connection{}, hosts: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	_ = tcp.SetKeepAliveConfig(keepalive) // the connection also works without it
	from, _ := netip.ParseAddrPort(tcp.RemoteAddr().String())
	accepted := &connection{TCPConn: tcp, of: c, host: from.Addr().Unmap()}
	c.mu.Lock()
	c.open[tcp.RemoteAddr().String()] = accepted
	c.wait(accepted)
	surplus := c.surplus(accepted.host)
	c.mu.Unlock()
	if surplus != nil {
		_ = surplus.Close()
	}
	return accepted, nil
}

// admit notes that an admitted request runs on the connection from an address, until
// done is called. patient means that the client need not read its output.
func (c *connections) admit(address string, patient bool) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.open[address]
	if conn == nil {
		return func() {}
	}
	if conn.running++; conn.running == 1 {
		c.leave(conn)
	}
	if patient {
		conn.setPatient(true)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if patient {
			conn.setPatient(false)
		}
		if conn.running--; conn.running == 0 && !conn.closed {
			c.wait(conn)
		}
	}
}

// wait puts a connection at the end of those that wait. mu is held.
func (c *connections) wait(conn *connection) {
	conn.place = c.waiting.PushBack(conn)
	c.hosts[conn.host]++
}

// leave takes a connection out of those that wait. mu is held.
func (c *connections) leave(conn *connection) {
	if conn.place == nil {
		return
	}
	c.waiting.Remove(conn.place)
	conn.place = nil
	if c.hosts[conn.host]--; c.hosts[conn.host] == 0 {
		delete(c.hosts, conn.host)
	}
}

// surplus returns the connection that has waited for longest, if the host has too many,
// or all have; else nil. mu is held.
func (c *connections) surplus(host netip.Addr) *connection {
	ofHost := c.hosts[host] > maxWaitingOfHost
	if !ofHost && c.waiting.Len() <= maxWaiting {
		return nil
	}
	for e := c.waiting.Front(); e != nil; e = e.Next() {
		if conn, _ := e.Value.(*connection); !ofHost || conn.host == host {
			return conn
		}
	}
	return nil
}

// connection is an accepted connection. It has all methods of a TCP connection, but is
// of another type: on a *net.TCPConn the generic server would set a keepalive of 3
// minutes.
type connection struct {
	*net.TCPConn

	of   *connections
	host netip.Addr

	// of.mu guards what follows.
	place   *list.Element // nil while it does not wait
	running int
	closed  bool

	writing sync.Mutex // guards patient, and that it fits the deadline
	patient bool
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	c.writing.Lock()
	if !c.patient {
		_ = c.SetWriteDeadline(time.Now().Add(c.of.unread)) // of a closed one, Write fails as well
	}
	c.writing.Unlock()
	return c.TCPConn.Write(p)
}

// setPatient sets whether a write may last.
func (c *connection) setPatient(patient bool) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.patient = patient
	if patient {
		_ = c.SetWriteDeadline(time.Time{})
	}
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mu.Lock()
	if !c.closed {
		c.closed = true
		c.of.leave(c)
		delete(c.of.open, c.RemoteAddr().String())
	}
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// track notes which connections have admitted requests. It stands behind authorization.
// Health is open to everybody, so who asks for it is not admitted.
func (c *connections) track(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if who, ok := request.UserFrom(req.Context()); ok && who.GetName() != user.Anonymous {
			info, _ := request.RequestInfoFrom(req.Context())
			// A connection of HTTP/2 also carries other requests, and never waits for one
			// that is not read.
			defer c.admit(req.RemoteAddr, isUse(info) && req.ProtoMajor == 1)()
		}
		api.ServeHTTP(w, req)
	})
}

const (
	// bodyTimeout is how long a client may take to send the body of a request. A use
	// that is admitted sets its own.
	bodyTimeout = 30 * time.Second
	// restTimeout is how long the server reads what is left of a body when it has
	// answered without it, so that the client sees the answer rather than a reset.
	restTimeout = time.Second
)

// withDeadlines bounds how long a request may be sent, and the answer read, before it is
// known who sends it. It stands before everything else.
func withDeadlines(next http.Handler, isUse func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") == "" && (req.TLS == nil || len(req.TLS.PeerCertificates) == 0) {
			w.Header().Set("Connection", "close") // it can only be refused, or ask for health
		}
		control := http.NewResponseController(w)
		if req.ProtoMajor > 1 && !isUse(req) {
			_ = control.SetWriteDeadline(time.Now().Add(2 * unreadTimeout))
		}
		if req.ContentLength == 0 {
			next.ServeHTTP(w, req)
			return
		}
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
		next.ServeHTTP(w, req)
		_ = control.SetReadDeadline(time.Now().Add(restTimeout))
	})
}
