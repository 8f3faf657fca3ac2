package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Forwarder opens connections to one address as seen from one target. All of
// them share one connection to the API server. It is safe for concurrent use.
type Forwarder struct {
	tunnel  *tunnel
	streams httpstream.Connection
	address string
	port    string
	next    atomic.Int64
}

// Forward prepares connections to an address as seen from a target: a port of
// the target itself ("5432"), host:port, or the absolute path of a unix socket.
// It fails at once, with an *Error, if the caller may not or the target cannot be
// reached; whether something listens at the address shows when it is dialed. ctx
// bounds Forward, not the Forwarder, which lives until Close.
func (p *Pool) Forward(ctx context.Context, target, address string) (*Forwarder, error) {
	query, port, err := forwardQuery(address)
	if err != nil {
		return nil, notStarted(err)
	}
	return p.forward(ctx, target, address, port, query)
}

// ForwardPod prepares connections to a port of a pod, from within the pod's
// network; on kubernetes targets. The namespace may be empty, for that of the
// target. For the rest it is as Forward.
func (p *Pool) ForwardPod(ctx context.Context, target string, pod types.NamespacedName, port uint16) (*Forwarder, error) {
	switch {
	case pod.Name == "":
		return nil, notStarted(errors.New("the pod has no name"))
	case port == 0:
		return nil, notStarted(errors.New("0 is no port of a pod: give one from 1 to 65535"))
	}
	query := url.Values{"pod": {pod.Name}}
	if pod.Namespace != "" {
		query.Set("namespace", pod.Namespace)
	}
	number := strconv.Itoa(int(port))
	return p.forward(ctx, target, pod.Name+":"+number, number, query)
}

func (p *Pool) forward(ctx context.Context, target, address, port string, query url.Values) (*Forwarder, error) {
	u, err := p.url("portforward")
	if err != nil {
		return nil, notStarted(err)
	}
	if target != "" {
		query.Set("target", target)
	}
	u.RawQuery = query.Encode()
	conn, _, failed := p.client.upgradeTo(ctx, u, portforward.WebsocketsSPDYTunnelingPortForwardV1)
	if failed != nil {
		return nil, failed
	}
	tunnel := newTunnel(conn)
	// Closes the tunnel if it fails.
	streams, err := spdy.NewClientConnection(tunnel)
	if err != nil {
		return nil, unknown(err)
	}
	return &Forwarder{tunnel: tunnel, streams: streams, address: address, port: port}, nil
}

// forwardQuery splits an address into what the query tells and the port that
// each connection names.
func forwardQuery(address string) (query url.Values, port string, err error) {
	query = url.Values{}
	if path.IsAbs(address) {
		query.Set("socket", address)
		return query, "1", nil // The protocol wants a port, and the server ignores it.
	}
	host, port := "", address
	if strings.Contains(address, ":") {
		if host, port, err = net.SplitHostPort(address); err != nil {
			return nil, "", fmt.Errorf("read the address %q: %w", address, err)
		}
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return nil, "", fmt.Errorf("%q names no port: give a port from 1 to 65535, host:port, or the path of a socket", address)
	}
	if host != "" {
		query.Set("host", host)
	}
	return query, port, nil
}

// Dial opens a connection. The protocol has no word for success: if nothing
// listens at the address, the first Read says so. The result has CloseWrite,
// which half-closes it; a deadline that passes ends it for good.
func (f *Forwarder) Dial(ctx context.Context) (net.Conn, error) {
	type result struct {
		conn *forwarded
		err  error
	}
	if f.lost() {
		return nil, errForwarderClosed
	}
	opened := make(chan result, 1)
	go func() {
		conn, err := f.open()
		opened <- result{conn, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, fmt.Errorf("open a connection to %s: %w", f.address, r.err)
		}
		return r.conn, nil
	case <-f.Done():
	case <-ctx.Done():
	}
	go func() {
		if r := <-opened; r.err == nil {
			r.conn.abort()
		}
	}()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, errForwarderClosed
}

// open opens the two streams of a connection: the one for errors comes first.
func (f *Forwarder) open() (*forwarded, error) {
	header := http.Header{}
	header.Set("Port", f.port)
	header.Set("Requestid", strconv.FormatInt(f.next.Add(1), 10))
	header.Set("Streamtype", "error")
	problems, err := f.streams.CreateStream(header)
	if err != nil {
		return nil, err
	}
	// We have nothing to say there.
	_ = problems.Close()
	header.Set("Streamtype", "data")
	data, err := f.streams.CreateStream(header)
	if err != nil {
		_ = problems.Reset()
		f.streams.RemoveStreams(problems)
		return nil, err
	}
	return newForwarded(f, data, problems), nil
}

// Done is closed when the connection to the API server is lost or closed.
func (f *Forwarder) Done() <-chan bool { return f.streams.CloseChan() }

// lost reports that the connection to the API server is gone.
func (f *Forwarder) lost() bool {
	select {
	case <-f.Done():
		return true
	default:
		return false
	}
}

// Close ends the forwarder and every connection dialed through it.
func (f *Forwarder) Close() {
	// To say goodbye takes no time, or for ever.
	defer time.AfterFunc(lastWords, func() { _ = f.tunnel.Close() }).Stop()
	_ = f.streams.Close()
}

// errForwarderClosed ends Serve when the connection to the API server is gone.
var errForwarderClosed = errors.New("the connection to the API server is closed")

// refusedAtTarget is what the target's side said about a connection.
func (f *Forwarder) refusedAtTarget(problems io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(problems, 4<<10)) // The rest of a message adds nothing.
	if len(text) == 0 {
		return nil
	}
	return fmt.Errorf("connect to %s: %s", f.address, text)
}
