package docker

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/connpool/connpool/internal/driver"
)

// notForwarded are the headers of one HTTP connection, and credentials that are for
// the operator. Idempotency keys are removed because net/http would send a request with
// one again; Docker knows none.
var notForwarded = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Authorization", "Cookie", "Idempotency-Key", "X-Idempotency-Key",
}

// Proxy implements driver.Proxier. Only net/http may send a request twice, and only one
// that reads (GET, HEAD, OPTIONS), when an idle socket turns out to be closed. The only
// deadline is that of the request's context, because events and logs have no end.
func (c *conn) Proxy(request *http.Request) (*http.Response, error) {
	if c.ctx.Err() != nil {
		return nil, c.death(driver.StageSession, false)
	}
	var received atomic.Bool // or may have been
	ctx := httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { received.Store(true) },
	})
	response, err := c.transport.RoundTrip(outgoing(ctx, request))
	if err != nil {
		return nil, c.unproxied(ctx, err, received.Load())
	}
	return response, nil
}

func outgoing(ctx context.Context, request *http.Request) *http.Request {
	out := request.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.URL.User = "http", host, nil
	out.Host, out.RequestURI, out.Close = host, "", false
	upgrade := httpguts.HeaderValuesContainsToken(request.Header["Connection"], "Upgrade")
	for _, listed := range request.Header.Values("Connection") {
		for name := range strings.SplitSeq(listed, ",") {
			out.Header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range notForwarded {
		out.Header.Del(name)
	}
	if protocol := request.Header.Get("Upgrade"); upgrade && protocol != "" {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", protocol)
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or net/http would add its own
	}
	return out
}

func (c *conn) unproxied(ctx context.Context, err error, received bool) *driver.Error {
	if c.ctx.Err() != nil {
		return c.death(driver.StageRun, received)
	}
	result, ok := driver.Classified(err)
	switch {
	case ok: // no socket could be dialed
	case ctx.Err() != nil:
		result = driver.Errorf(driver.Timeout, driver.StageRun, "the caller gave up before the engine answered")
	case isNetwork(err):
		result = driver.Errorf(driver.Unreachable, driver.StageRun,
			"the connection to %s broke before the engine answered", c.endpoint.Address)
		c.monitor.Suspect()
	default:
		result = driver.Errorf(driver.ProtocolError, driver.StageRun,
			"the request to %s failed: %s", c.endpoint.Address, driver.Sanitize(err.Error()))
		c.monitor.Suspect()
	}
	result.Started = received
	return result.Because(err)
}
