package kube

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// config is all that is taken from a kubeconfig: where the server is, how it proves
// its identity, and what proves the operator's.
type config struct {
	host       string // of URLs
	path       string // before that of every request, escaped
	address    string // host and port to dial
	serverName string
	authority  []byte // in PEM; the system's when empty

	token            string
	certificate, key []byte // in PEM
	subject          string // of the certificate
	notBefore        time.Time
	notAfter         time.Time

	namespace string
	keepalive keepaliveTimes
}

// keepaliveTimes are how often a sign of life is asked for, and how long each may take.
type keepaliveTimes struct{ interval, timeout time.Duration }

// digest identifies a config: connections with the same digest share a client.
type digest [sha256.Size]byte

func (c *config) digest() digest {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %d", c.host, c.path, c.serverName,
		c.authority, c.token, c.certificate, c.key, c.keepalive))
}

// tls returns the TLS configuration of one client. It resumes TLS sessions only with a
// token: a resumed session would outlive a client certificate.
func (c *config) tls() (*tls.Config, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.serverName, NextProtos: []string{"http/1.1"}}
	if len(c.authority) > 0 {
		secure.RootCAs = x509.NewCertPool()
		secure.RootCAs.AppendCertsFromPEM(c.authority)
	}
	if len(c.certificate) == 0 {
		secure.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		return secure, nil
	}
	pair, err := tls.X509KeyPair(c.certificate, c.key)
	if err != nil {
		return nil, invalid("the kubeconfig's client certificate cannot be read; replace it")
	}
	secure.Certificates = []tls.Certificate{pair}
	return secure, nil
}

func (c *config) describe() string {
	if c.token != "" {
		return "the token of the kubeconfig"
	}
	return "the client certificate of " + driver.Sanitize(c.subject)
}

// url returns the URL of a path of the API, which is escaped and begins with a slash.
func (c *config) url(escaped, query string) (*url.URL, error) {
	address, err := url.Parse("https://" + c.host + c.path + escaped)
	if err != nil {
		return nil, err
	}
	address.RawQuery = query
	return address, nil
}

// foreignHeaders are headers by which a client proves its identity or impersonates a
// user. They are removed: the operator's own credentials count.
var foreignHeaders = []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Forwarded-Client-Cert"}

// foreignPrefixes begin headers of the same kind.
var foreignPrefixes = []string{"Impersonate-", "X-Remote-"}

// bearerProtocol begins a WebSocket protocol that carries a token.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// authenticate replaces the credentials in a request's headers by the operator's own.
func (c *config) authenticate(header http.Header) {
	for _, name := range foreignHeaders {
		header.Del(name)
	}
	for name := range header {
		for _, prefix := range foreignPrefixes {
			if strings.HasPrefix(http.CanonicalHeaderKey(name), prefix) {
				delete(header, name)
			}
		}
	}
	withoutBearers(header)
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
}

func withoutBearers(header http.Header) {
	const name = "Sec-WebSocket-Protocol"
	offered := header.Values(name)
	if len(offered) == 0 {
		return
	}
	var kept []string
	for protocol := range strings.SplitSeq(strings.Join(offered, ","), ",") {
		if protocol = strings.TrimSpace(protocol); !strings.HasPrefix(protocol, bearerProtocol) {
			kept = append(kept, protocol)
		}
	}
	header.Del(name)
	if len(kept) > 0 {
		header.Set(name, strings.Join(kept, ", "))
	}
}

// holdsDots reports whether a path could lead out of the path that it is appended to.
func holdsDots(escaped string) bool {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return true
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
