// Package kube is the Kubernetes driver, on client-go's kubeconfigs and
// k8s.io/streaming's port-forwards.
//
//	dialer, err := kube.New(kube.Options{}).Prepare(endpoint)
//	conn, err := dialer.Dial(ctx)
//	status, err := conn.(driver.Execer).Exec(ctx, command, streams)
//	stream, err := conn.(driver.PodForwarder).ForwardPod(ctx, pod, 8080)
//	response, err := conn.(driver.Proxier).Proxy(request)
//	pods, err := conn.(inventory.Lister).List(ctx, query)
//
// The credentials are one kubeconfig, under the key kubeconfig. Only what is
// embedded in it counts. A kubeconfig that asks the driver to run a program, read a
// file, trust any server or impersonate a user is refused with the name of the field.
//
// All connections with the same server, credentials and keepalive share one client:
// one HTTP/2 connection for requests, and a few sockets that are dialed and encrypted
// ahead, for what takes a socket of its own. So a hundred targets of one kubeconfig
// cost the memory of one. Any connection's DialFunc may open the sockets: clusters
// have no jump hosts, so each is the operator's own egress. Every Dial opens a socket
// of its own and makes a round trip on it before it shares the client. So it fails if
// the server takes no new connections, although the shared ones still work. The socket
// then becomes one of those kept ahead. The last Close frees everything.
//
// An API server closes idle sockets, and sends its clients to another server (GOAWAY),
// as it likes. So the loss of a socket does not end a connection. It makes the client
// ask for a sign of life at once, and connections end if no answer comes, or 401.
//
// Commands use the WebSocket protocol v5.channel.k8s.io, and port-forwards use SPDY
// in a WebSocket: Kubernetes 1.31 or newer. A command costs one round trip. The driver
// writes its upgrade itself, once, so that no library can send it again.
//
// A command that ends while much of its input is still unread may never report it:
// container runtimes stall there, with kubectl too. Give a timeout.
//
// Kubernetes cannot signal a command: one that is canceled loses its streams, and
// goes on until it notices. Its API has no environment variables, so a command with
// some is run by the container's env. The container runtime sets the terminal type.
package kube

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// Options change the driver's patience and pace. The zero value is right for
// production.
type Options struct {
	// StageTimeout bounds each stage of dialing, and the server's answer to the
	// start of a command or a port-forward; 10 s when 0.
	StageTimeout time.Duration
	// QPS is how many commands, port-forwards and proxied requests per second are
	// begun with the same credentials, over time; 50 when 0. The server's own
	// priority and fairness is the real limit: this one protects it from the operator.
	QPS float32
	// Burst is how many may begin at once; 100 when 0.
	Burst int
}

// Driver implements driver.Driver.
type Driver struct {
	options Options

	mu      sync.Mutex
	clients map[digest]*client // those in use, by their config
}

var (
	_ driver.Driver       = (*Driver)(nil)
	_ driver.Dialer       = (*dialer)(nil)
	_ driver.Conn         = (*conn)(nil)
	_ driver.Execer       = (*conn)(nil)
	_ driver.PodForwarder = (*conn)(nil)
	_ driver.Proxier      = (*conn)(nil)
	_ inventory.Lister    = (*conn)(nil)
)

// New returns a driver.
func New(options Options) *Driver {
	return &Driver{clients: map[digest]*client{}, options: Options{
		StageTimeout: cmp.Or(options.StageTimeout, 10*time.Second), QPS: cmp.Or(options.QPS, 50), Burst: cmp.Or(options.Burst, 100),
	}}
}

// Prepare implements driver.Driver.
func (d *Driver) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	config, err := readKubeconfig(endpoint.Credentials, endpoint.Context, time.Now())
	if err != nil {
		return nil, err
	}
	if endpoint.Namespace != "" {
		config.namespace = endpoint.Namespace
	}
	config.keepalive = keepaliveTimes{endpoint.KeepaliveInterval, endpoint.KeepaliveTimeout}
	if endpoint.Reopen == nil {
		endpoint.Reopen = endpoint.Dial
	}
	endpoint.Credentials = nil // the config has what is needed of them
	return &dialer{driver: d, endpoint: endpoint, config: config, digest: config.digest()}, nil
}

// With implements driver.Dialer.
func (d *dialer) With(change func(*driver.Endpoint)) driver.Dialer {
	changed, settings := *d, *d.config
	change(&changed.endpoint)
	settings.keepalive = keepaliveTimes{changed.endpoint.KeepaliveInterval, changed.endpoint.KeepaliveTimeout}
	changed.config, changed.digest = &settings, settings.digest()
	return &changed
}

// dialer implements driver.Dialer.
type dialer struct {
	driver   *Driver
	endpoint driver.Endpoint
	config   *config
	digest   digest
}

// acquire returns a connection to the client of all dialers with the same config. It
// keeps the client alive until it is closed.
func (d *Driver) acquire(by *dialer) (*conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	shared := d.clients[by.digest]
	if shared == nil || shared.ctx.Err() != nil {
		var err error
		if shared, err = newClient(d.options, by.config, d.superseded); err != nil {
			return nil, err
		}
		d.clients[by.digest] = shared
	}
	c := &conn{client: shared, namespace: by.config.namespace}
	c.ctx, c.cancel = context.WithCancelCause(shared.ctx)
	c.release = sync.OnceFunc(func() { d.release(by.digest, c) })
	shared.network.retain(c, by.endpoint.Reopen)
	return c, nil
}

// release lets go of a connection. The last one closes the client.
func (d *Driver) release(of digest, c *conn) {
	d.mu.Lock()
	last := c.client.network.release(c)
	if last && d.clients[of] == c.client {
		delete(d.clients, of)
	}
	d.mu.Unlock()
	if last {
		c.client.end(errUnused)
	}
}
