package controlplane

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Access is what a program needs to use a control plane and to add parts to it.
type Access struct {
	// Config is the configuration of an administrator.
	Config *rest.Config
	// Dir holds the files of the control plane.
	Dir string

	keys *keys
}

// Find returns the access to a control plane that another process has started in
// the directory.
func Find(dir string) (*Access, error) {
	host, err := os.ReadFile(hostFile(dir))
	if err != nil {
		return nil, fmt.Errorf("find a control plane: %w", err)
	}
	a := &Access{Dir: dir}
	if a.keys, err = findKeys(dir); err != nil {
		return nil, err
	}
	a.Config, err = a.keys.config(string(host), "admin", administrators)
	return a, err
}

func hostFile(dir string) string { return filepath.Join(dir, "host") }

// administer makes the administrator's configuration, and writes what Find needs.
func (a *Access) administer(host string) (err error) {
	if a.Config, err = a.keys.config(host, "admin", administrators); err != nil {
		return err
	}
	return os.WriteFile(hostFile(a.Dir), []byte(host), 0o600)
}

// InstallCRDs installs the CRDs in the directory and returns when they are
// established.
func (a *Access) InstallCRDs(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := envtest.InstallCRDs(a.Config, envtest.CRDInstallOptions{
		Paths: []string{dir}, ErrorIfPathMissing: true, MaxTime: 30 * time.Second, PollInterval: 100 * time.Millisecond,
	})
	if err != nil {
		return fmt.Errorf("install the CRDs in %s: %w", dir, err)
	}
	return nil
}

// Kubeconfig returns the administrator's configuration as a file for kubectl.
func (a *Access) Kubeconfig() ([]byte, error) { return Kubeconfig(a.Config) }

// Kubeconfig returns a configuration as a file, with all credentials in it.
func Kubeconfig(config *rest.Config) ([]byte, error) {
	const name = "connpool-lab"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{
		Server: config.Host, CertificateAuthorityData: config.CAData, TLSServerName: config.ServerName,
	}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken,
	}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	kubeconfig.CurrentContext = name
	data, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return data, nil
}

// Kubelet returns the certificate with which a kubelet serves at an address, and its
// key, both in PEM. authority is the file, also in PEM, of the authority with which
// kube-apiserver and kubelets verify each other.
func (a *Access) Kubelet(name string, address net.IP) (cert, key []byte, authority string, err error) {
	cert, key, err = a.keys.kubelet.issue(certutil.Config{
		CommonName: name, AltNames: certutil.AltNames{IPs: []net.IP{address}},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return cert, key, a.keys.kubelet.ca, err
}

// AuthorityFile returns the path of the authority of kube-apiserver and its users, in
// PEM.
func (a *Access) AuthorityFile() string { return a.keys.server.ca }

// ServiceAccountKeyFile returns the path of the key that signs the tokens of
// ServiceAccounts.
func (a *Access) ServiceAccountKeyFile() string { return a.keys.server.key }
