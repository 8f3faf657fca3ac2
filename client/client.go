// Package client runs commands, and reaches ports, through connpool's pools of
// warm connections, for programs.
//
//	c, err := client.New(config) // a rest.Config, as for any Kubernetes client
//	pool := c.Pool("default", "web")
//	result, err := pool.Exec(ctx, client.Command{Target: "web-1", Argv: []string{"uptime"}})
//
// Exec sends one request and comes back with the whole result; input and output
// are bounded by 1 MiB each. Stream has no bounds and carries a terminal, for a
// connection of its own per command. Forward reaches a port or a unix socket as
// seen from a target, and Proxy the HTTP API of a Docker engine or a cluster.
// NewSession opens a shell in which several commands run one after the other.
//
// # At most once
//
// Every command ends in one of three ways, and the error says which:
//
//   - nil, or an *ExitError if the exit code is not 0: the command has ended.
//   - ErrNotStarted: it is proved not to have run, and may be tried again.
//   - ErrUnknown: it may have run. Find out before trying again, or give the
//     command a RequestID with which Exec may safely be repeated.
//
// The package itself never tries anything again, and keeps net/http from doing
// so. A doubt counts as unknown: a proxy's own 502 may hide a command that runs.
//
// # Directly, or through the Kubernetes API server
//
// With a rest.Config for the cluster, requests take the way of kubectl. A program
// inside of the cluster saves that hop with config.Host set to the operator's
// Service, and its certificate authority and a bearer token in config.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// maxAnswerBytes bounds an answer that is not a list. The largest one has
// stdout and stderr of 1 MiB each, whose bytes JSON writes as up to six.
const maxAnswerBytes = 16 << 20

// Client speaks to the live API as one user. It is safe for concurrent use, and
// shares its idle connections among all its pools.
type Client struct {
	http    *http.Client
	upgrade http.RoundTripper
	// switching is for requests that ask to switch protocols, whatever to.
	switching http.RoundTripper
	base      url.URL
}

// New makes a client for whoever config identifies. It does no I/O but reading
// the files that config names. Credentials that change in time (token files,
// exec plugins, certificate files) are followed.
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
	upgrade, switching, err := newUpgraders(transportConfig)
	if err != nil {
		return nil, err
	}
	return &Client{
		http:    &http.Client{Transport: once{roundTripper}, Timeout: config.Timeout, CheckRedirect: refuseRedirect},
		upgrade: upgrade, switching: switching,
		base: base,
	}, nil
}

// refuseRedirect keeps commands and credentials from going anywhere else.
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

// CloseIdleConnections closes the connections to the API server that nothing
// uses now. A program that ends soon needs no such call.
func (c *Client) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// Pool names a pool. It does no I/O: whether the pool exists shows when it is
// used.
func (c *Client) Pool(namespace, name string) *Pool {
	return &Pool{client: c, namespace: namespace, name: name}
}

// resource is the URL of a resource in a namespace, or in all of them.
func (c *Client) resource(namespace string, segments ...string) *url.URL {
	u := c.base
	if namespace != "" {
		segments = append([]string{"namespaces", namespace}, segments...)
	}
	u.Path = path.Join(append([]string{u.Path}, segments...)...)
	return &u
}

// checkNames keeps a name from changing the path that it is put into.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/%") {
			return fmt.Errorf("%q is no name of a Kubernetes object", name)
		}
	}
	return nil
}

// call sends in, if there is one, as JSON, and reads the answer into out, if it
// is wanted.
func (c *Client) call(ctx context.Context, method string, u *url.URL, in, out any) error {
	body, err := encode(in)
	if err != nil {
		return err
	}
	request, err := newRequest(ctx, method, u, body)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if refusal := refusal(response); refusal != nil {
		return refusal.StatusError
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(out)
}
