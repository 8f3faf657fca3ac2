package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/kubestream"
)

// Forwarder opens connections to one address as seen from one target. All of
// them share one connection to the API server. It is safe for concurrent use.
type Forwarder struct {
	forwarder *kubestream.Forwarder
	address   string
	port      string
}

// Forward prepares connections to an address as seen from a target: a port of
// the target itself ("5432"), host:port, or the absolute path of a unix socket.
// It fails, with an *Error, if the user may not or if the target cannot be reached.
// It does not find out whether something listens at the address: Dial does. ctx
// bounds Forward, not the Forwarder, which lives until Close.
func (p *Pool) Forward(ctx context.Context, target, address string) (*Forwarder, error) {
	query, port, err := forwardQuery(address)
	if err != nil {
		return nil, notStarted(err)
	}
	return p.forward(ctx, target, address, port, query)
}

// ForwardPod prepares connections to a port of a pod, from within the pod's
// network, on a kubernetes target. An empty namespace is the target's default.
// Everything else is as with Forward.
func (p *Pool) ForwardPod(ctx context.Context, target string, pod types.NamespacedName, port uint16) (*Forwarder, error) {
	switch {
	case pod.Name == "":
		return nil, notStarted(errors.New("the pod has no name"))
	case port == 0:
		return nil, notStarted(errors.New("0 is not a valid port of a pod (1-65535)"))
	}
	query := queryOf(map[string]string{"pod": pod.Name, "namespace": pod.Namespace})
	number := strconv.Itoa(int(port))
	return p.forward(ctx, target, pod.Name+":"+number, number, query)
}

// ForwardPodPort is ForwardPod for a port with a name, which a container of the pod gives
// it. It is looked up once, now.
func (p *Pool) ForwardPodPort(ctx context.Context, target string, pod types.NamespacedName, port string) (*Forwarder, error) {
	if pod.Name == "" || port == "" {
		return nil, notStarted(errors.New("the pod or its port has no name"))
	}
	query := queryOf(map[string]string{"pod": pod.Name, "namespace": pod.Namespace, "port": port})
	return p.forward(ctx, target, pod.Name+":"+port, ignoredPort, query)
}

// ignoredPort is in streams because the protocol requires a port.
const ignoredPort = "1"

func (p *Pool) forward(ctx context.Context, target, address, port string, query url.Values) (*Forwarder, error) {
	u, err := p.url("portforward")
	if err != nil {
		return nil, notStarted(err)
	}
	if target != "" {
		query.Set("target", target)
	}
	u.RawQuery = query.Encode()
	socket, _, failed := p.client.upgradeTo(ctx, u, kubestream.ForwardProtocol)
	if failed != nil {
		return nil, failed
	}
	forwarder, err := kubestream.NewForwarder(socket)
	if err != nil {
		return nil, unknown(err)
	}
	return &Forwarder{forwarder: forwarder, address: address, port: port}, nil
}

// forwardQuery splits an address into the query of the request and the port that
// each connection names.
func forwardQuery(address string) (query url.Values, port string, err error) {
	if path.IsAbs(address) {
		return url.Values{"socket": {address}}, ignoredPort, nil
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
	return queryOf(map[string]string{"host": host}), port, nil
}

// Dial opens a connection. The protocol does not say whether something listens at
// the address: if nothing does, the first Read returns the reason. The result has
// CloseWrite, which half-closes it. A deadline that passes ends it for good.
func (f *Forwarder) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := f.forwarder.Dial(ctx, f.port)
	if err != nil {
		return nil, fmt.Errorf("open a connection to %s: %w", f.address, err)
	}
	return &forwarded{Conn: conn, address: f.address}, nil
}

// Done is closed when the connection to the API server is lost or closed.
func (f *Forwarder) Done() <-chan bool { return f.forwarder.Done() }

// Close ends the forwarder and every connection dialed through it.
func (f *Forwarder) Close() { f.forwarder.Close() }

// reportWait is how long the end of a connection without data waits for the
// reason.
const reportWait = time.Second

var _ net.Conn = (*forwarded)(nil)

// forwarded is one connection of a Forwarder.
type forwarded struct {
	*kubestream.Conn

	address string
	// heard means that data has come.
	heard atomic.Bool
}

// Read reads what the target sends. If the target sends nothing because nothing
// listens at the address, the error says so.
func (c *forwarded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	if errors.Is(err, io.EOF) {
		err = c.endError(err)
	}
	return n, err
}

// endError tells the end of the data from what went wrong.
func (c *forwarded) endError(end error) error {
	wait := reportWait
	if c.heard.Load() {
		wait = 0
	}
	if report := c.Report(wait); report != "" {
		return fmt.Errorf("connect to %s: %s", c.address, report)
	}
	if c.Lost() {
		return io.ErrUnexpectedEOF
	}
	return end
}

// LocalAddr returns an empty address: the connection begins in this process.
func (c *forwarded) LocalAddr() net.Addr { return address("") }

// RemoteAddr returns the address as given to Forward.
func (c *forwarded) RemoteAddr() net.Addr { return address(c.address) }

// address is an address as seen from a target.
type address string

// Network returns a name that the net package cannot dial.
func (address) Network() string { return "connpool" }

// String returns the address as it was given.
func (a address) String() string { return string(a) }

// Serve accepts connections from listener, dials for each of them, and copies in
// both directions, until ctx ends, the Forwarder is closed or the listener fails.
// Then it closes the listener and all connections, waits for their end, and returns
// why it ended. If report is not nil, it gets the errors of single connections, from
// several goroutines.
func (f *Forwarder) Serve(ctx context.Context, listener net.Listener, report func(error)) error {
	if report == nil {
		report = func(error) {}
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	var workers sync.WaitGroup
	workers.Go(func() {
		select {
		case <-ctx.Done():
		case <-f.Done():
			end(kubestream.ErrClosed)
		}
	})
	for {
		local, err := listener.Accept()
		if err != nil {
			end(err)
			_ = listener.Close()
			workers.Wait()
			return context.Cause(ctx)
		}
		workers.Go(func() {
			if err := f.serve(ctx, local); err != nil && ctx.Err() == nil {
				report(err)
			}
		})
	}
}

// serve copies one accepted connection in both directions.
func (f *Forwarder) serve(ctx context.Context, local net.Conn) error {
	defer local.Close()
	remote, err := f.Dial(ctx)
	if err != nil {
		return err
	}
	defer remote.Close()
	defer context.AfterFunc(ctx, func() {
		_, _ = local.Close(), remote.Close()
	})()
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(remote, local) // the side that closed the connection knows
		closeWrite(remote)
	})
	// Only Write is passed on: ReadFrom would put the addresses of this machine before the reason.
	_, err = io.Copy(struct{ io.Writer }{local}, remote)
	closeWrite(local)
	if err != nil {
		_ = local.Close()
	}
	sending.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// closeWrite ends one direction of a connection, or both if it cannot end one.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = conn.Close()
}
