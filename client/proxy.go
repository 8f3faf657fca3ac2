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
)

// targetAPI hands requests to the HTTP API of one target.
type targetAPI struct {
	pool   *Pool
	target string
}

// ErrNotProxied says that a request was not handed to the target, since on its way
// it would mean something else.
var ErrNotProxied = errors.New("the request is not handed on")

// Proxy reaches the target's own HTTP API, that of the Docker engine or of the
// cluster: the path and the query of each request are those of that API, and its
// scheme and host mean nothing. The target authenticates the operator; who may
// do so, RBAC says by the verb create on connectionpools/proxy.
//
// What cannot be handed on is ErrNotProxied: who else to be (Impersonate-), and a
// path that leads out of the target's. The answer is the target's, or a metav1.Status of the live API that says why
// the target was not asked. Redirects are not followed, and net/http repeats
// nothing but reading requests that surely got no answer. An upgrade that is
// accepted has status 101 and a body that is an io.ReadWriteCloser, as that of
// http.Transport.
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
	if header.Get("Accept-Encoding") == "" {
		// Or net/http would ask for gzip by itself, and unpack what it gets.
		header.Set("Accept-Encoding", "identity")
	}
	if httpstream.IsUpgradeRequest(outgoing) {
		return a.upgrade(outgoing)
	}
	return a.pool.client.http.Transport.RoundTrip(outgoing)
}

// upgrade asks for a connection whose directions can end one by one where that
// means something: in a raw stream of Docker. Other protocols have words of their
// own for it.
func (a *targetAPI) upgrade(request *http.Request) (*http.Response, error) {
	if strings.EqualFold(request.Header.Get("Upgrade"), "tcp") {
		halfclose.Ask(request.Header)
	}
	response, err := a.pool.client.switching.RoundTrip(request)
	if err == nil {
		halfclose.Unwrap(response)
	}
	return response, err
}

// notProxied are the headers of a request that would mean something else on the
// way: credentials, which are those of the client, and what tells net/http that
// it may repeat a request.
var notProxied = []string{"Authorization", "Cookie", "Idempotency-Key", "X-Idempotency-Key"}

// checkProxied refuses what would be understood on the way and not by the
// target.
func checkProxied(request *http.Request) error {
	for name := range request.Header {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "Impersonate-") {
			return fmt.Errorf("%w with the header %s: the target acts as the user of the pool's credentials", ErrNotProxied, name)
		}
	}
	return nil
}

// url puts the path behind that of the proxy, exactly as it is encoded.
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
