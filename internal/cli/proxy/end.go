package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/connpool/connpool/internal/cli/listen"
)

// longestSocket is how many bytes the path of a socket may have on every system.
const longestSocket = 103

// localEnd is where a target's API is served on this machine.
type localEnd struct {
	net.Listener

	kind apiKind
	// directory belongs to this end, which removes it; "" if there is none.
	directory string
	// kubeconfig is the path of the file that leads to a cluster; "" for an engine.
	kubeconfig string
	// token that requests must carry; "" for none.
	token string
	// isOpen says that every user of this machine can connect.
	isOpen bool
}

// openSocket serves on a socket that only its owner may use.
func openSocket(ctx context.Context, kind apiKind, path string) (*localEnd, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > longestSocket {
		return nil, fmt.Errorf("the path %q is too long for a socket: choose one of at most %d bytes with --socket", path, longestSocket)
	}
	listener, err := listen.Unix(ctx, path)
	if err != nil {
		return nil, err
	}
	return &localEnd{Listener: listener, kind: kind}, nil
}

// openPrivateSocket serves an engine on a socket in a directory of its own.
func openPrivateSocket(ctx context.Context) (*localEnd, error) {
	directory, err := os.MkdirTemp("", "connpool-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the socket: %w", err)
	}
	end, err := openSocket(ctx, apiDocker, filepath.Join(directory, "docker.sock"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	end.directory = directory
	return end, nil
}

// openPort serves on a port, without a token, for tools that cannot send one.
func openPort(ctx context.Context, kind apiKind, port int) (*localEnd, error) {
	listener, err := listen.TCP(ctx, listen.Loopback, strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	end := &localEnd{Listener: listener, kind: kind, isOpen: true}
	if kind == apiDocker {
		return end, nil
	}
	return end.withKubeconfig(&clientcmdapi.Cluster{Server: "http://" + listener.Addr().String()}, "")
}

// openPrivatePort serves a cluster on a port whose token stands in a kubeconfig that
// only its owner can read. kubectl sends a token only over TLS.
func openPrivatePort(ctx context.Context, namespace string) (*localEnd, error) {
	certificate, authority, err := newCertificate()
	if err != nil {
		return nil, err
	}
	listener, err := listen.TCP(ctx, listen.Loopback, "0")
	if err != nil {
		return nil, err
	}
	secured := tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	end := &localEnd{Listener: secured, kind: apiKubernetes, token: rand.Text()}
	return end.withKubeconfig(&clientcmdapi.Cluster{
		Server: "https://" + listener.Addr().String(), CertificateAuthorityData: authority,
	}, namespace)
}

// withKubeconfig writes the file that leads kubectl to this end, or removes the end.
func (e *localEnd) withKubeconfig(cluster *clientcmdapi.Cluster, namespace string) (*localEnd, error) {
	const name = "connpool"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = cluster
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: e.token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	config.CurrentContext = name
	directory, err := os.MkdirTemp("", "connpool-")
	if err == nil {
		e.directory, e.kubeconfig = directory, filepath.Join(directory, "kubeconfig")
		err = clientcmd.WriteToFile(*config, e.kubeconfig)
	}
	if err != nil {
		e.remove()
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return e, nil
}

// remove stops listening, and leaves nothing behind.
func (e *localEnd) remove() {
	_ = e.Close()
	if e.directory != "" {
		_ = os.RemoveAll(e.directory)
	}
}

// address returns where it listens, as a URL.
func (e *localEnd) address() string {
	address := e.Addr()
	switch {
	case address.Network() == "unix":
		return "unix://" + address.String()
	case e.token != "":
		return "https://" + address.String()
	}
	return "http://" + address.String()
}

// dockerHost returns the address as docker writes it.
func (e *localEnd) dockerHost() string {
	return strings.Replace(e.address(), "http://", "tcp://", 1)
}

func (e *localEnd) advice() []string {
	switch {
	case e.kind == apiDocker:
		return []string{"export DOCKER_HOST=" + e.dockerHost(), "docker ps"}
	case e.kubeconfig == "":
		return []string{"curl --unix-socket " + e.Addr().String() + " http://localhost/api/v1/namespaces"}
	case e.isOpen:
		return []string{"kubectl --server " + e.address() + " get pods"}
	}
	return []string{"export KUBECONFIG=" + e.kubeconfig, "kubectl get pods"}
}

// overriddenEnv are the variables that lead docker, kubectl and helm to other
// servers. The variables of docker's TLS would make docker insist on TLS.
var overriddenEnv = []string{
	"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
	"KUBECONFIG", "HELM_KUBEAPISERVER", "HELM_KUBECONTEXT", "HELM_KUBETOKEN", "HELM_KUBECAFILE", "HELM_KUBEASUSER",
	"HELM_KUBEASGROUPS", "HELM_KUBETLS_SERVER_NAME", "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
}

// environment returns the environment of a tool that is led to this end.
func (e *localEnd) environment() []string {
	variables := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(overriddenEnv, name)
	})
	if e.kind == apiDocker {
		return append(variables, "DOCKER_HOST="+e.dockerHost())
	}
	return append(variables, "KUBECONFIG="+e.kubeconfig)
}

// newCertificate makes a certificate for this process alone, which signs itself.
func newCertificate() (certificate tls.Certificate, authority []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.ParseIP(listen.Loopback)}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority, nil
}
