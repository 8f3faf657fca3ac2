package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/transport"

	"github.com/connpool/connpool/internal/kubestream"
)

// heartbeat is what the live API's server expects: it pings its clients unasked, and
// gives up a client that pinged and then stopped.
var heartbeat = kubestream.Heartbeat{Ping: 5 * time.Second, Patience: 30 * time.Second, PeerPings: true}

// upgrader is the innermost http.RoundTripper of an upgraded request: it dials, and
// does the handshake of a WebSocket. The layers above it, which authenticate, are
// those of any other request.
type upgrader struct {
	proxy func(*http.Request) (*url.URL, error)
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	tls   *tls.Config
	ready ready
}

// socket is a WebSocket as the body of a response. In this form it passes the layers
// above the upgrader.
type socket struct {
	io.Reader
	*kubestream.Socket
}

// addUpgraders makes the round trippers for WebSockets, and for other protocols.
func (c *Client) addUpgraders(config *transport.Config) (err error) {
	if c.upgrader, err = newUpgrader(config); err != nil {
		return err
	}
	if c.upgrade, err = transport.HTTPWrappersForConfig(config, c.upgrader); err == nil {
		c.switching, err = transport.HTTPWrappersForConfig(config, c.upgrader.switcher())
	}
	if err != nil {
		return fmt.Errorf("authenticate upgraded requests: %w", err)
	}
	return nil
}

func newUpgrader(config *transport.Config) (*upgrader, error) {
	secure, err := transport.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the TLS configuration: %w", err)
	}
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	// HTTP/2 has no upgrade.
	secure.NextProtos = []string{"http/1.1"}
	// Each command needs a connection of its own. A resumed TLS session saves half of
	// the handshake, but would outlive a client certificate.
	if secure.GetClientCertificate == nil {
		secure.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	inner := &upgrader{proxy: config.Proxy, tls: secure, dial: (&net.Dialer{Timeout: 30 * time.Second}).DialContext}
	if inner.proxy == nil {
		inner.proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	if config.DialHolder != nil {
		inner.dial = config.DialHolder.Dial
	}
	return inner, nil
}

// switcher returns a round tripper for requests whose headers ask for any protocol.
// Each request gets a new connection, because an idle one may just be closing.
func (u *upgrader) switcher() http.RoundTripper {
	return &http.Transport{
		Proxy: u.proxy, DialContext: u.dial, TLSClientConfig: u.tls,
		TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true, DisableCompression: true,
	}
}

// RoundTrip upgrades a request. A refusal is a response like any other.
func (u *upgrader) RoundTrip(request *http.Request) (*http.Response, error) {
	header := request.Header.Clone()
	dialer := websocket.Dialer{
		Proxy: u.proxy, NetDialContext: u.dial, TLSClientConfig: u.tls, Subprotocols: header.Values("Sec-WebSocket-Protocol"),
	}
	header.Del("Sec-WebSocket-Protocol")
	if conn := u.ready.take(); conn != nil {
		dialer.NetDialTLSContext = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	}
	target := *request.URL
	target.Scheme = map[string]string{"https": "wss", "http": "ws"}[target.Scheme]
	upgraded, response, err := kubestream.Upgrade(request.Context(), dialer, target.String(), header, heartbeat)
	if errors.Is(err, websocket.ErrBadHandshake) && response.StatusCode != http.StatusSwitchingProtocols {
		return response, nil
	}
	if err != nil {
		return nil, err
	}
	response.Body = &socket{Reader: http.NoBody, Socket: upgraded}
	return response, nil
}

// upgradeTo upgrades a request to the protocol. The error is unknown from the moment
// when the request may have been sent: the server starts a command right after its
// answer.
func (c *Client) upgradeTo(ctx context.Context, u *url.URL, protocol string) (*kubestream.Socket, http.Header, *Error) {
	opened, secured := false, true
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// The request is written when the connection is open. Through a proxy, the handshake
		// with the server comes after that, and before the request.
		GotConn:           func(httptrace.GotConnInfo) { opened = true },
		TLSHandshakeStart: func() { secured = false },
		TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { secured = err == nil },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, notStarted(err)
	}
	request.Header.Set("Sec-WebSocket-Protocol", protocol)
	response, err := c.upgrade.RoundTrip(request)
	switch {
	case err != nil && opened && secured:
		return nil, nil, unknown(err)
	case err != nil:
		return nil, nil, notStarted(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		defer response.Body.Close()
		return nil, nil, refused(readRefusal(response))
	}
	upgraded, ok := response.Body.(*socket)
	if !ok {
		_ = response.Body.Close()
		return nil, nil, unknown(errors.New("a transport wrapper hides the upgraded connection"))
	}
	return upgraded.Socket, response.Header, nil
}
