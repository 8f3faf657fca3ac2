package connectiontarget

import (
	"net"
	"net/url"
	"strings"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/connpool/connpool/internal/driver"
)

// maxKubeconfigBytes is how large a kubeconfig may be.
const maxKubeconfigBytes = 1 << 20

// cluster is what a kubeconfig says of the API server that it leads to. It is
// zero if the kubeconfig cannot be read: the driver says what is wrong with it.
type cluster struct {
	// server is its URL, without anything that could be secret.
	server string
	// address is the host and port of the server.
	address string
	// serverName is the name that its certificate must have, if not the host's.
	serverName string
	// authority is the certificate authority of the server.
	authority []byte
}

// readCluster looks at a kubeconfig without judging it. An empty context means
// its current-context.
func readCluster(kubeconfig []byte, context string) cluster {
	if len(kubeconfig) > maxKubeconfigBytes {
		return cluster{}
	}
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return cluster{}
	}
	if context == "" {
		context = config.CurrentContext
	}
	chosen := config.Contexts[context]
	if chosen == nil || config.Clusters[chosen.Cluster] == nil {
		return cluster{}
	}
	named := config.Clusters[chosen.Cluster]
	server, address := serverOf(named.Server)
	if server == "" {
		return cluster{}
	}
	return cluster{
		server: server, address: address,
		serverName: named.TLSServerName, authority: named.CertificateAuthorityData,
	}
}

// serverOf splits a server's URL, which may lack its scheme, into what may be
// shown of it and the address to dial.
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
