package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/kubestream"
)

// readyFor is how long a connection waits for its first request. A server may close one
// that stays silent for long.
const readyFor = time.Second

// Connect opens a connection to the server, and verifies the certificate of the server. It
// sends no request, so an error leaves no doubt: nothing has been started. The next Stream,
// or other upgraded request, uses the connection if it comes within a second. The server
// must have an https URL and be reached without a proxy. The context bounds all of it.
func (c *Client) Connect(ctx context.Context) error {
	conn, err := c.upgrader.connect(ctx, &c.base)
	if err != nil {
		return err
	}
	c.upgrader.ready.put(conn)
	return nil
}

func (u *upgrader) connect(ctx context.Context, base *url.URL) (*tls.Conn, error) {
	if through, err := u.proxy(&http.Request{URL: base}); err != nil || through != nil || base.Scheme != "https" {
		return nil, errors.Join(err, fmt.Errorf("%s is not reached by TLS without a proxy", base.Host))
	}
	port := base.Port()
	if port == "" {
		port = "443"
	}
	raw, err := u.dial(ctx, "tcp", net.JoinHostPort(base.Hostname(), port))
	if err != nil {
		return nil, err
	}
	secure := u.tls.Clone()
	if secure.ServerName == "" {
		secure.ServerName = base.Hostname()
	}
	conn := tls.Client(kubestream.NewWire(raw), secure)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// ready keeps one connection for its first request.
type ready struct {
	mu     sync.Mutex // guards what follows
	conn   *tls.Conn
	expiry *time.Timer
}

func (r *ready) put(conn *tls.Conn) {
	if earlier := r.take(); earlier != nil {
		closeAtOnce(earlier)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.expiry = conn, time.AfterFunc(readyFor, func() { r.drop(conn) })
}

// take returns the connection, which then belongs to the caller, or nil.
func (r *ready) take() *tls.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn := r.conn
	if conn != nil {
		r.expiry.Stop()
	}
	r.conn = nil
	return conn
}

// drop closes the connection, unless it was taken.
func (r *ready) drop(conn *tls.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == conn {
		r.conn = nil
		closeAtOnce(conn)
	}
}

// closeAtOnce closes the connection below TLS, because the end of TLS can take seconds.
func closeAtOnce(conn *tls.Conn) { _ = conn.NetConn().Close() }
