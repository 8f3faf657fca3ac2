package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/streaming/pkg/httpstream"

	"github.com/connpool/connpool/internal/halfclose"
	"github.com/connpool/connpool/internal/redirect"
)

// targetAPI sends requests to the HTTP API of one target.
type targetAPI struct {
	pool   *Pool
	target string
}

// ErrNotProxied means that a request was not sent, because its meaning would change
// on the way to the target.
var ErrNotProxied = errors.New("the request is not handed on")

// Proxy reaches the target's own HTTP API: that of the Docker engine or of the
// cluster. The path and the query of each request are those of that API. Its scheme
// and host are ignored. The target sees the pool's credentials, and a user needs
// the verb create on connectionpools/proxy.
//
// A request with headers that impersonate another user (Impersonate-), or with a
// path that leads out of the target's API, fails with ErrNotProxied. The answer is
// the target's, or a metav1.Status of the live API that says why the target got no
// request. Redirects are returned and not followed. net/http repeats only reading requests that
// got no answer. An accepted upgrade has status 101 and a body that is an
// io.ReadWriteCloser, as with http.Transport.
func (p *Pool) Proxy(target string) http.RoundTripper { return &targetAPI{pool: p, target: target} }

// RoundTrip implements http.RoundTripper.
func (a *targetAPI) RoundTrip(request *http.Request) (*http.Response, error) {
	u, err := a.url(request.URL)
	if err == nil {
		err = checkProxied(request)
	}
	if err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, err
	}
	outgoing := request.Clone(request.Context())
	outgoing.URL, outgoing.Host, outgoing.RequestURI = u, "", ""
	header := outgoing.Header
	for _, name := range notProxied {
		header.Del(name)
	}
	halfclose.Withdraw(header)
	redirect.Ask(header)
	if header.Get("Accept-Encoding") == "" {
		// Without this, net/http would ask for gzip, and unpack the answer.
		header.Set("Accept-Encoding", "identity")
	}
	if httpstream.IsUpgradeRequest(outgoing) {
		return a.upgrade(outgoing)
	}
	response, err := a.pool.client.http.Transport.RoundTrip(outgoing)
	if err == nil {
		redirect.Restore(response.Header)
	}
	return response, err
}

// upgrade sends a request that switches protocols. For a raw stream of Docker it
// asks for a connection whose directions can end one by one, which means something
// there. Other protocols have messages for that.
func (a *targetAPI) upgrade(request *http.Request) (*http.Response, error) {
	if strings.EqualFold(request.Header.Get("Upgrade"), "tcp") {
		halfclose.Ask(request.Header)
	}
	response, err := a.pool.client.switching.RoundTrip(request)
	if err == nil {
		redirect.Restore(response.Header)
		halfclose.Unwrap(response)
	}
	return response, err
}

// notProxied are the headers that are removed from a request: credentials, because
// the client has its own, and those that allow net/http to repeat a request.
var notProxied = []string{"Authorization", "Cookie", "Idempotency-Key", "X-Idempotency-Key"}

// checkProxied refuses headers that the Kubernetes API server would take for itself.
func checkProxied(request *http.Request) error {
	for name := range request.Header {
		if strings.HasPrefix(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")), "Impersonate-") {
			return fmt.Errorf("%w with the header %s: the target acts as the user of the pool's credentials", ErrNotProxied, name)
		}
	}
	return nil
}

// url appends the path to that of the proxy, with its encoding unchanged.
func (a *targetAPI) url(asked *url.URL) (*url.URL, error) {
	if err := checkNames(a.target); err != nil {
		return nil, err
	}
	segments := strings.Split(asked.Path, "/")
	if slices.Contains(segments, "..") || slices.Contains(segments, ".") {
		return nil, fmt.Errorf("%w with a path that has . or .. between its slashes", ErrNotProxied)
	}
	u, err := a.pool.url("proxy")
	if err != nil {
		return nil, err
	}
	behind := "/" + a.target + "/"
	u.RawPath = u.EscapedPath() + behind + strings.TrimPrefix(asked.EscapedPath(), "/")
	u.Path += behind + strings.TrimPrefix(asked.Path, "/")
	u.RawQuery = asked.RawQuery
	return u, nil
}
