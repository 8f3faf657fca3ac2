// Package client runs commands, and reaches ports, through connpool's pools of
// warm connections, for programs.
//
//	c, err := client.New(config) // a rest.Config, as for any Kubernetes client
//	pool := c.Pool("default", "web")
//	result, err := pool.Exec(ctx, client.Command{Target: "web-1", Argv: []string{"uptime"}})
//
// Exec sends one request and returns the whole result; input and output
// are bounded by 1 MiB each. Stream has no bounds and can carry a terminal, but
// takes a connection to the API server for each command. Forward reaches a port or a unix socket as
// seen from a target, and Proxy the HTTP API of a Docker engine or a cluster.
// NewSession opens a shell in which several commands run one after the other.
//
// # At most once
//
// Every command ends in one of three ways, and the error says which:
//
//   - nil, or an *ExitError if the exit code is not 0: the command has ended.
//   - ErrNotStarted: the command has not run, and may be tried again.
//   - ErrUnknown: the command may have run. Find out before trying again, or give
//     commands a RequestID, with which Exec may be repeated safely.
//
// The package itself never repeats a request, and keeps net/http from doing so. A
// doubt counts as unknown: a proxy's own 502 may hide a command that runs.
//
// # Directly, or through the Kubernetes API server
//
// With a rest.Config for the cluster, requests go through the Kubernetes API
// server, as those of kubectl. A program in the cluster can reach the operator
// directly: package direct finds its Service, and verifies it.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// maxAnswerBytes bounds an answer that is not a list. The largest one has stdout
// and stderr of 1 MiB each, and JSON writes one byte as up to six.
const maxAnswerBytes = 16 << 20

// Client speaks to the live API as one user. It is safe for concurrent use, and
// shares its idle connections among all its pools.
type Client struct {
	http *http.Client
	// upgrader is what upgrade has below the layers that authenticate.
	upgrader *upgrader
	upgrade  http.RoundTripper
	// switching is for requests that ask for other protocols than WebSocket.
	switching http.RoundTripper
	base      url.URL
}

// New returns a client that acts as the user of config. It does no I/O except
// reading the files that config names. Credentials that change (token files, exec
// plugins, certificate files) are read again.
func New(config *rest.Config) (*Client, error) {
	base, err := baseURL(config)
	if err != nil {
		return nil, err
	}
	transportConfig, err := transportConfig(config)
	if err != nil {
		return nil, err
	}
	roundTripper, err := transport.New(transportConfig)
	if err != nil {
		return nil, fmt.Errorf("make a transport: %w", err)
	}
	c := &Client{
		http: &http.Client{Transport: once{roundTripper}, Timeout: config.Timeout, CheckRedirect: refuseRedirect},
		base: base,
	}
	if err := c.addUpgraders(transportConfig); err != nil {
		return nil, err
	}
	return c, nil
}

// refuseRedirect keeps commands and credentials from going to another server.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func transportConfig(config *rest.Config) (*transport.Config, error) {
	config = rest.CopyConfig(config)
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	converted, err := config.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return converted, nil
}

func baseURL(config *rest.Config) (url.URL, error) {
	host := config.Host
	if host == "" {
		return url.URL{}, errors.New("the configuration names no host")
	}
	secure := config.Insecure || config.CAFile != "" || len(config.CAData) > 0 || config.CertFile != "" || len(config.CertData) > 0
	base, versioned, err := rest.DefaultServerURL(host, "/apis", live.GroupVersion, secure)
	if err != nil {
		return url.URL{}, fmt.Errorf("read the host %q: %w", host, err)
	}
	base.Path = versioned
	return *base, nil
}

// CloseIdleConnections closes the connections to the API server that are not in
// use. A program that ends soon does not need it.
func (c *Client) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// Pool returns a pool by its name. It does no I/O: if the pool does not exist,
// using it fails.
func (c *Client) Pool(namespace, name string) *Pool {
	return &Pool{client: c, namespace: namespace, name: name}
}

// resource returns the URL of a resource in a namespace, or in all of them.
func (c *Client) resource(namespace string, segments ...string) *url.URL {
	u := c.base
	if namespace != "" {
		segments = append([]string{"namespaces", namespace}, segments...)
	}
	u.Path = path.Join(append([]string{u.Path}, segments...)...)
	return &u
}

// checkNames refuses names that would change the path of a URL.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/%") {
			return fmt.Errorf("%q is not a valid name of a Kubernetes object", name)
		}
	}
	return nil
}

// call sends in as JSON, if it is not nil, and reads the answer into out, if that is
// not nil.
func (c *Client) call(ctx context.Context, method string, u *url.URL, in, out any) error {
	response, failed := c.send(ctx, method, u, in)
	if failed != nil {
		return failed.Err
	}
	defer response.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(out)
}

// create sends an object once, and reads the answer into another one. They are two, because
// what is sent has slices and maps of the caller, which the answer must not change.
func (c *Client) create(ctx context.Context, u *url.URL, object, answer any) *Error {
	response, failed := c.send(ctx, http.MethodPost, u, object)
	if failed != nil {
		return failed
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswerBytes)).Decode(answer); err != nil {
		return unknown(fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

// send sends an object, if it is not nil, at most once. An answer that is not a success
// is an error. The caller closes the body.
func (c *Client) send(ctx context.Context, method string, u *url.URL, object any) (*http.Response, *Error) {
	request, body, err := newRequest(ctx, method, u, object)
	if err != nil {
		return nil, notStarted(err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, body.failed(err)
	}
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusMultipleChoices {
		defer response.Body.Close()
		return nil, refused(readRefusal(response))
	}
	return response, nil
}
