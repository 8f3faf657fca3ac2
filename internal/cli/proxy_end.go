package cli

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
)

// loopback is where ports are served: nobody else's machine gets there.
const loopback = "127.0.0.1"

// longestSocket is how long the path of a socket may be on every system.
const longestSocket = 103

// localEnd is where a target's API is served on this machine.
type localEnd struct {
	net.Listener

	kind apiKind
	// directory is ours alone, and removed at the end; "" if there is none.
	directory string
	// kubeconfig leads to a cluster; "" for an engine.
	kubeconfig string
	// token that requests must bear; "" for none.
	token string
	// isOpen says that everybody on this machine can connect.
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
	listener, err := listenUnix(ctx, path)
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

// openPort serves on a port, without a secret: for tools that know none.
func openPort(ctx context.Context, kind apiKind, port int) (*localEnd, error) {
	listener, err := listenLoopback(ctx, port)
	if err != nil {
		return nil, err
	}
	end := &localEnd{Listener: listener, kind: kind, isOpen: true}
	if kind == apiDocker {
		return end, nil
	}
	return end.withKubeconfig(&clientcmdapi.Cluster{Server: "http://" + listener.Addr().String()}, "")
}

// openPrivatePort serves a cluster on a port whose token stands in a kubeconfig
// that only its owner can read. It takes TLS, or kubectl would not send it.
func openPrivatePort(ctx context.Context, namespace string) (*localEnd, error) {
	certificate, authority, err := newCertificate()
	if err != nil {
		return nil, err
	}
	listener, err := listenLoopback(ctx, 0)
	if err != nil {
		return nil, err
	}
	secured := tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	end := &localEnd{Listener: secured, kind: apiKubernetes, token: rand.Text()}
	return end.withKubeconfig(&clientcmdapi.Cluster{
		Server: "https://" + listener.Addr().String(), CertificateAuthorityData: authority,
	}, namespace)
}

func listenLoopback(ctx context.Context, port int) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen on port %d of %s: %w", port, loopback, errors.Unwrap(err))
	}
	return listener, nil
}

// withKubeconfig writes the file that leads kubectl here, or closes the end.
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

// address is where it listens, as a URL.
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

// dockerHost is the address in the words of docker.
func (e *localEnd) dockerHost() string {
	return strings.Replace(e.address(), "http://", "tcp://", 1)
}

// advice is what to type next.
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

// steering are the variables that lead docker, kubectl and helm to other places.
// Those of docker's TLS would make it insist on that.
var steering = []string{
	"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
	"KUBECONFIG", "HELM_KUBEAPISERVER", "HELM_KUBECONTEXT", "HELM_KUBETOKEN", "HELM_KUBECAFILE", "HELM_KUBEASUSER",
	"HELM_KUBEASGROUPS", "HELM_KUBETLS_SERVER_NAME", "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
}

// environment is that of this process, but for what leads a tool here.
func (e *localEnd) environment() []string {
	variables := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(steering, name)
	})
	if e.kind == apiDocker {
		return append(variables, "DOCKER_HOST="+e.dockerHost())
	}
	return append(variables, "KUBECONFIG="+e.kubeconfig)
}

// newCertificate makes a certificate for this process alone, and its authority,
// which is itself.
func newCertificate() (certificate tls.Certificate, authority []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.ParseIP(loopback)}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority, nil
}
