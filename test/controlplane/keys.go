package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
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

// FrontProxyName is the common name by which an aggregated API knows
// kube-apiserver.
const FrontProxyName = "front-proxy-client"

// keys are the files of the control plane's certificates. Each purpose has an
// authority of its own, so that a client of one is nobody to the others.
type keys struct {
	authority authority
	front     authority

	ca, serverCert, serverKey    string
	etcdCA, etcdCert, etcdKey    string
	frontCA, frontCert, frontKey string
}

// makeKeys writes all keys into the directory.
func makeKeys(dir string) (*keys, error) {
	dir = filepath.Join(dir, "keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for keys: %w", err)
	}
	k := &keys{}
	main, err := writePair(dir, "server", "kubernetes", serverCertificate("kube-apiserver"))
	if err != nil {
		return nil, err
	}
	etcd, err := writePair(dir, "etcd", "etcd", serverCertificate("etcd"))
	if err != nil {
		return nil, err
	}
	front, err := writePair(dir, "front-proxy", "front-proxy", certutil.Config{
		CommonName: FrontProxyName, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	k.authority, k.front = main.authority, front.authority
	k.ca, k.serverCert, k.serverKey = main.ca, main.cert, main.key
	k.etcdCA, k.etcdCert, k.etcdKey = etcd.ca, etcd.cert, etcd.key
	k.frontCA, k.frontCert, k.frontKey = front.ca, front.cert, front.key
	return k, nil
}

func serverCertificate(name string) certutil.Config {
	return certutil.Config{
		CommonName: name,
		AltNames:   certutil.AltNames{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}},
		Usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// config makes the configuration of a user.
func (k *keys) config(host, name string, groups ...string) (*rest.Config, error) {
	cert, key, err := k.authority.issue(certutil.Config{
		CommonName: name, Organization: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            host,
		TLSClientConfig: rest.TLSClientConfig{CAData: encode(k.authority.cert), CertData: cert, KeyData: key},
		QPS:             -1, // the server's own limits are enough
	}, nil
}

// pair is the files of an authority and of one certificate that it issued.
type pair struct {
	authority     authority
	ca, cert, key string
}

func writePair(dir, file, authorityName string, config certutil.Config) (pair, error) {
	issuer, err := newAuthority(authorityName)
	if err != nil {
		return pair{}, err
	}
	cert, key, err := issuer.issue(config)
	if err != nil {
		return pair{}, err
	}
	p := pair{
		authority: issuer,
		ca:        filepath.Join(dir, file+"-ca.crt"),
		cert:      filepath.Join(dir, file+".crt"),
		key:       filepath.Join(dir, file+".key"),
	}
	for path, data := range map[string][]byte{p.ca: encode(issuer.cert), p.cert: cert, p.key: key} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return pair{}, fmt.Errorf("write a key: %w", err)
		}
	}
	return p, nil
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
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
	return authority{cert: cert, key: key}, nil
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
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, signer.Public(), a.key)
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
