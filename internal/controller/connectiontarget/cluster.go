package connectiontarget

import (
	"net"
	"net/url"
	"strings"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubeconfig"
)

// cluster is what a kubeconfig says of its API server. It is zero if the kubeconfig
// cannot be read. The driver says what is wrong with it.
type cluster struct {
	// server is the URL of the API server, without parts that could be secret.
	server string
	// address is the host and port of the server.
	address string
	// serverName is the name that the server's certificate must have. Empty means the
	// host.
	serverName string
	// authority is the certificate authority of the server.
	authority []byte
}

// readCluster reads a kubeconfig without validating it. An empty context means its
// current-context.
func readCluster(text []byte, context string) cluster {
	chosen, err := kubeconfig.Read(text, context)
	if err != nil {
		return cluster{}
	}
	named := chosen.Cluster
	server, address := serverOf(named.Server)
	if server == "" {
		return cluster{}
	}
	return cluster{
		server: server, address: address,
		serverName: named.TLSServerName, authority: named.CertificateAuthorityData,
	}
}

// serverOf returns a server's URL without parts that could be secret, and the
// address to dial. The URL may lack its scheme. Both are empty if it cannot be
// parsed.
func serverOf(text string) (shown, address string) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" {
		return "", ""
	}
	port := parsed.Port()
	switch {
	case port == "" && parsed.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	shown = parsed.Scheme + "://" + parsed.Host + strings.TrimSuffix(parsed.Path, "/")
	return driver.Sanitize(shown), net.JoinHostPort(parsed.Hostname(), port)
}
