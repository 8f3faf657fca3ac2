package kube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/connpool/connpool/internal/driver"
)

// maxKeptBodyBytes is the size up to which a body is kept until the request is
// answered. It can then be sent again if the server sends its clients elsewhere
// (GOAWAY) before it has looked at the request.
const maxKeptBodyBytes = 64 << 10

// hopByHopHeaders are about one HTTP/1.1 connection. HTTP/2 has none.
var hopByHopHeaders = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// replayHeaders make net/http send a request again that may have been received.
// Kubernetes knows neither of them.
var replayHeaders = []string{"Idempotency-Key", "X-Idempotency-Key"}

// Proxy implements driver.Proxier. A request that is not read-only is sent again
// only if the server has said that it did not look at it.
func (c *conn) Proxy(request *http.Request) (*http.Response, error) {
	if err := c.begin(request.Context()); err != nil {
		return nil, err
	}
	ended := c.use()
	ctx, leave := joinContexts(request.Context(), c.ctx)
	done := func() {
		leave()
		ended()
	}
	out, err := c.client.config.outgoing(ctx, request)
	if err != nil {
		done()
		return nil, err
	}
	var response *http.Response
	if httpguts.HeaderValuesContainsToken(request.Header["Connection"], "Upgrade") {
		response, err = c.proxyUpgrade(out, done)
	} else {
		response, err = c.client.proxyRequest(out, done)
	}
	if err != nil {
		done()
		return nil, c.preferConnError(request.Context(), err)
	}
	if response.StatusCode == http.StatusUnauthorized {
		c.client.monitor.Suspect() // it may be about the credentials, or be what a pod says
	}
	return response, nil
}

// outgoing returns the request as the server gets it: with the credentials of the
// connection only.
func (c *config) outgoing(ctx context.Context, request *http.Request) (*http.Request, *driver.Error) {
	escaped := request.URL.EscapedPath()
	address, err := c.url(escaped, request.URL.RawQuery)
	if err != nil || !strings.HasPrefix(escaped, "/") || holdsDots(escaped) && c.path != "" {
		return nil, driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the path of the request must begin with a slash and lead nowhere else; write it without dots")
	}
	out := request.Clone(ctx)
	out.URL, out.Host, out.RequestURI, out.Close = address, "", "", false
	c.authenticate(out.Header)
	for _, name := range replayHeaders {
		out.Header.Del(name)
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", userAgent)
	}
	return out, nil
}

// proxyRequest sends a request over the shared transport. done is called when the body
// of the answer is closed.
func (c *client) proxyRequest(out *http.Request, done func()) (*http.Response, *driver.Error) {
	for _, name := range hopByHopHeaders {
		out.Header.Del(name)
	}
	if err := keepBody(out); err != nil {
		return nil, err
	}
	var sent atomic.Bool
	out = out.WithContext(httptrace.WithClientTrace(out.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }, // it is written next
	}))
	response, err := c.transport.RoundTrip(out)
	if err == nil {
		body := response.Body
		response.Body = closing{body, func() error {
			defer done()
			return body.Close()
		}}
		return response, nil
	}
	result := unsent(out.Context(), err, c.config.address) //nolint:contextcheck // that of the request
	result.Started = sent.Load() && !notLookedAt(err)
	return nil, result
}

func unsent(ctx context.Context, err error, address string) *driver.Error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	return transportError(err, driver.StageRun, address)
}

// keepBody reads a small body into memory, so that it can be sent again.
func keepBody(out *http.Request) *driver.Error {
	if out.Body == nil || out.Body == http.NoBody || out.ContentLength < 0 || out.ContentLength > maxKeptBodyBytes {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(out.Body, out.ContentLength))
	_ = out.Body.Close()
	if err != nil || int64(len(body)) != out.ContentLength {
		return driver.Errorf(driver.Unreachable, driver.StageStart, "the request's body broke off")
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	return nil
}

// notLookedAt reports whether the server has promised that it did not look at a
// request. The transport's error for that has no type: it says that it could not send
// the body again. It says the same when a stream was reset for a protocol error, which
// promises nothing.
func notLookedAt(err error) bool {
	said := err.Error()
	return strings.Contains(said, "after Request.Body was written; define Request.GetBody to avoid this error") &&
		!strings.Contains(said, "PROTOCOL_ERROR")
}

// proxyUpgrade sends a request that may become a stream on a socket of its own. done is
// called when the body of the answer is closed. It must end the request's context.
func (c *conn) proxyUpgrade(out *http.Request, done func()) (*http.Response, *driver.Error) {
	socket, failed := c.socket(out.Context())
	if failed != nil {
		return nil, failed
	}
	response, err := socket.RoundTrip(out)
	if err != nil {
		_ = socket.NetConn().Close()
		result := unsent(out.Context(), err, c.client.config.address)
		result.Started = true
		return nil, result
	}
	body := response.Body
	closed := closing{body, func() error {
		defer done()
		socket.hangUp() // before, because closing reads the rest of the body
		return body.Close()
	}}
	response.Body = closed
	if response.StatusCode == http.StatusSwitchingProtocols {
		context.AfterFunc(out.Context(), socket.hangUp)
		closed.Reader = socket.reader
		response.Body = &switched{closing: closed, socket: socket}
	}
	return response, nil
}

// switched is the stream of an upgraded request.
type switched struct {
	closing

	socket *socket
}

func (s *switched) Write(p []byte) (int, error) { return s.socket.Write(p) }

// CloseWrite implements driver.HalfCloser.
func (s *switched) CloseWrite() error { return s.socket.CloseWrite() }
