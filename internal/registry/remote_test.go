package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// remote is a driver whose connections reach an API and the ports of pods.
type remote struct {
	*drivertest.Fake

	// proxy plays the API.
	proxy func(*remoteConn, *http.Request) (*http.Response, error)
	// pods plays the ports.
	pods func(pod driver.Place, port uint16) (net.Conn, error)
}

func (r *remote) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	dialer, err := r.Fake.Prepare(endpoint)
	return remoteDialer{dialer, r}, err
}

type remoteDialer struct {
	driver.Dialer

	remote *remote
}

func (d remoteDialer) Dial(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &remoteConn{conn.(*drivertest.FakeConn), d.remote}, nil
}

type remoteConn struct {
	*drivertest.FakeConn

	remote *remote
}

var (
	_ driver.PodForwarder = (*remoteConn)(nil)
	_ driver.Proxier      = (*remoteConn)(nil)
)

func (c *remoteConn) ForwardPod(_ context.Context, pod driver.Place, port uint16) (net.Conn, error) {
	if c.remote.pods == nil {
		return nil, &driver.Error{Reason: driver.NotFound, Message: fmt.Sprintf("pod %s does not exist", pod.Pod)}
	}
	return c.remote.pods(pod, port)
}

func (c *remoteConn) Proxy(request *http.Request) (*http.Response, error) {
	return c.remote.proxy(c, request)
}
