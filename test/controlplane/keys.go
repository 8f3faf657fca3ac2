package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// FrontProxyName is the common name by which an aggregated API recognizes
// kube-apiserver.
const FrontProxyName = "front-proxy-client"

// administrators is the group that may do everything.
const administrators = "system:masters"

// keys are the control plane's certificates. Each purpose has an authority of its
// own, so that a certificate for one purpose is not accepted for another.
type keys struct {
	server pair
	etcd   pair
	front  pair
	// kubelet is the certificate that kube-apiserver shows to kubelets. They ask
	// kube-apiserver what the name in it may do.
	kubelet pair
}

// makeKeys writes all keys into the directory.
func makeKeys(dir string) (*keys, error) {
	dir = keysDir(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for keys: %w", err)
	}
	k := &keys{}
	var failed []error
	issue := func(into *pair, file, authority string, config certutil.Config) {
		var err error
		*into, err = writePair(dir, file, authority, config)
		failed = append(failed, err)
	}
	issue(&k.server, "server", "kubernetes", apiserverCertificate())
	issue(&k.etcd, "etcd", "etcd", serverCertificate("etcd"))
	issue(&k.front, "front-proxy", "front-proxy", clientCertificate(FrontProxyName))
	issue(&k.kubelet, "kubelet", "kubelet", clientCertificate("kube-apiserver", administrators))
	return k, errors.Join(failed...)
}

// findKeys reads what another process's makeKeys has written.
func findKeys(dir string) (*keys, error) {
	dir = keysDir(dir)
	k := &keys{}
	var failed []error
	for file, into := range map[string]*pair{"server": &k.server, "etcd": &k.etcd, "front-proxy": &k.front, "kubelet": &k.kubelet} {
		var err error
		*into, err = readPair(dir, file)
		failed = append(failed, err)
	}
	return k, errors.Join(failed...)
}

func keysDir(dir string) string { return filepath.Join(dir, "keys") }

func serverCertificate(name string) certutil.Config {
	return certutil.Config{
		CommonName: name,
		AltNames:   certutil.AltNames{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}},
		Usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// apiserverCertificate has the names by which pods know kube-apiserver, too.
func apiserverCertificate() certutil.Config {
	config := serverCertificate("kube-apiserver")
	config.AltNames.DNSNames = append(config.AltNames.DNSNames, "kubernetes", "kubernetes.default", "kubernetes.default.svc")
	config.AltNames.IPs = append(config.AltNames.IPs, net.ParseIP(kubernetesAddress))
	return config
}

func clientCertificate(name string, groups ...string) certutil.Config {
	return certutil.Config{CommonName: name, Organization: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// config makes the configuration of a user.
func (k *keys) config(host, name string, groups ...string) (*rest.Config, error) {
	cert, key, err := k.server.issue(clientCertificate(name, groups...))
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            host,
		TLSClientConfig: rest.TLSClientConfig{CAData: encode(k.server.authority.cert), CertData: cert, KeyData: key},
		QPS:             -1, // the server's own limits are enough
	}, nil
}

// pair is an authority and one certificate that it has issued, and the files of both.
type pair struct {
	authority
	ca, caKey, cert, key string
}

func pairOf(dir, file string) pair {
	path := filepath.Join(dir, file)
	return pair{ca: path + "-ca.crt", caKey: path + "-ca.key", cert: path + ".crt", key: path + ".key"}
}

func writePair(dir, file, authorityName string, config certutil.Config) (p pair, err error) {
	p = pairOf(dir, file)
	if p.authority, err = newAuthority(authorityName); err != nil {
		return p, err
	}
	caKey, err := keyutil.MarshalPrivateKeyToPEM(p.signer)
	if err != nil {
		return p, fmt.Errorf("encode a key: %w", err)
	}
	cert, key, err := p.issue(config)
	if err != nil {
		return p, err
	}
	files := map[string][]byte{p.ca: encode(p.authority.cert), p.caKey: caKey, p.cert: cert, p.key: key}
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return p, fmt.Errorf("write a key: %w", err)
		}
	}
	return p, nil
}

func readPair(dir, file string) (pair, error) {
	p := pairOf(dir, file)
	certs, err := certutil.CertsFromFile(p.ca)
	if err != nil {
		return p, fmt.Errorf("read an authority: %w", err)
	}
	key, err := keyutil.PrivateKeyFromFile(p.caKey)
	if err != nil {
		return p, fmt.Errorf("read an authority's key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return p, fmt.Errorf("the key in %s cannot sign", p.caKey)
	}
	p.authority = authority{cert: certs[0], signer: signer}
	return p, nil
}

// authority issues certificates.
type authority struct {
	cert   *x509.Certificate
	signer crypto.Signer
}

func newAuthority(name string) (authority, error) {
	key, err := newKey()
	if err != nil {
		return authority{}, err
	}
	cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: name}, key)
	if err != nil {
		return authority{}, fmt.Errorf("make the authority %s: %w", name, err)
	}
	return authority{cert: cert, signer: key}, nil
}

// issue returns a certificate and its key, in PEM.
func (a authority) issue(config certutil.Config) (cert, key []byte, err error) {
	signer, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: config.CommonName, Organization: config.Organization},
		DNSNames:     config.AltNames.DNSNames,
		IPAddresses:  config.AltNames.IPs,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  config.Usages,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, signer.Public(), a.signer)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate for %s: %w", config.CommonName, err)
	}
	issued, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read back a certificate: %w", err)
	}
	key, err = keyutil.MarshalPrivateKeyToPEM(signer)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	return encode(issued), key, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// encode returns the certificate in PEM.
func encode(cert *x509.Certificate) []byte {
	data, err := certutil.EncodeCertificates(cert)
	if err != nil {
		panic(err) // writing to memory does not fail
	}
	return data
}
