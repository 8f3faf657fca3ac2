package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/gorilla/websocket"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// upgrade makes a WebSocket of a socket, or returns the answer of a server that
// refuses. An error's Started tells whether the request was written.
func (c *conn) upgrade(ctx context.Context, path string, query url.Values, protocol string) (*kubestream.Socket, *answer, *driver.Error) {
	address, err := c.client.config.url(path, query.Encode())
	if err != nil {
		return nil, nil, driver.Errorf(driver.ProtocolError, driver.StageStart, "the request makes no URL; correct the names in it")
	}
	address.Scheme = "ws" // the socket is encrypted already
	socket, failed := c.socket(ctx)
	if failed != nil {
		return nil, nil, failed
	}
	ctx, cancel := context.WithTimeout(ctx, c.client.options.StageTimeout)
	defer cancel()
	opened, refused, err := c.client.config.shakeHands(ctx, socket, address, protocol)
	if err == nil {
		return opened, refused, nil
	}
	result := transportError(err, driver.StageStart, c.client.config.address)
	if errors.Is(err, kubestream.ErrSubprotocol) {
		result = driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the cluster does not speak %s; it needs Kubernetes 1.31 or newer", protocol)
	}
	result.Started = true
	return nil, nil, result
}

// shakeHands upgrades on a socket that is open already, and closes it if that
// fails or if the server refuses.
func (c *config) shakeHands(
	ctx context.Context, socket *socket, address *url.URL, protocol string,
) (*kubestream.Socket, *answer, error) {
	header := http.Header{"User-Agent": {userAgent}}
	c.authenticate(header)
	dialer := websocket.Dialer{
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return socket, nil },
		Subprotocols:   []string{protocol},
	}
	socket.left = maxHeaderBytes
	heartbeat := c.heartbeat()
	opened, response, err := kubestream.Upgrade(ctx, dialer, address.String(), header, heartbeat) //nolint:bodyclose // it is in memory
	socket.left = -1
	if err == nil {
		return opened, nil, nil
	}
	socket.hangUp()
	if !errors.Is(err, websocket.ErrBadHandshake) || response.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil, err
	}
	body := make([]byte, maxAnswerBytes)
	n, _ := response.Body.Read(body)
	return nil, &answer{status: response.StatusCode, header: response.Header, body: body[:n]}, nil
}

// heartbeat says how a command or a port-forward finds out that the server is dead.
// API servers answer pings, and send none.
func (c *config) heartbeat() kubestream.Heartbeat {
	return kubestream.Heartbeat{Ping: c.keepalive.interval / 2, Patience: c.keepalive.interval + c.keepalive.timeout}
}
