package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/connpool/connpool/internal/driver"
)

// canary stands for a secret, which no message may contain.
const canary = "canary-d41d8cd98f"

// clientPair makes a client certificate that is valid from and to some time from now.
func clientPair(t testing.TB, from, until time.Duration) (certificate, key []byte) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "user"},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
}

// usable returns a kubeconfig that is accepted. It has a token, and trusts the
// authorities of the system.
func usable() (*api.Config, *api.Cluster, *api.AuthInfo) {
	cluster := &api.Cluster{Server: "https://prod.example.com:6443"}
	user := &api.AuthInfo{Token: canary}
	return &api.Config{
		Clusters: map[string]*api.Cluster{"c": cluster}, AuthInfos: map[string]*api.AuthInfo{"u": user},
		Contexts:       map[string]*api.Context{"prod": {Cluster: "c", AuthInfo: "u", Namespace: "web"}},
		CurrentContext: "prod",
	}, cluster, user
}

func write(t testing.TB, file *api.Config) map[string][]byte {
	t.Helper()
	text, err := clientcmd.Write(*file)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{keyKubeconfig: text}
}

func TestKubeconfigsWithForbiddenFieldsAreRefusedByName(t *testing.T) {
	tests := map[string]struct {
		change func(*api.Cluster, *api.AuthInfo)
		field  string
	}{
		"a program to log in": {func(_ *api.Cluster, u *api.AuthInfo) {
			u.Exec = &api.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: canary, InteractiveMode: api.NeverExecInteractiveMode}
		}, "exec"},
		"a plugin to log in":      {func(_ *api.Cluster, u *api.AuthInfo) { u.AuthProvider = &api.AuthProviderConfig{Name: canary} }, "auth-provider"},
		"a token in a file":       {func(_ *api.Cluster, u *api.AuthInfo) { u.TokenFile = "/" + canary }, "tokenFile"},
		"a certificate in a file": {func(_ *api.Cluster, u *api.AuthInfo) { u.ClientCertificate = "/" + canary }, "client-certificate"},
		"a key in a file":         {func(_ *api.Cluster, u *api.AuthInfo) { u.ClientKey = "/" + canary }, "client-key"},
		"an authority in a file":  {func(c *api.Cluster, _ *api.AuthInfo) { c.CertificateAuthority = "/" + canary }, "certificate-authority"},
		"any server":              {func(c *api.Cluster, _ *api.AuthInfo) { c.InsecureSkipTLSVerify = true }, "insecure-skip-tls-verify"},
		"a proxy":                 {func(c *api.Cluster, _ *api.AuthInfo) { c.ProxyURL = "http://" + canary + ":1" }, "proxy-url"},
		"to be another user":      {func(_ *api.Cluster, u *api.AuthInfo) { u.Impersonate = canary }, "as"},
		"to be another UID":       {func(_ *api.Cluster, u *api.AuthInfo) { u.ImpersonateUID = canary }, "as-uid"},
		"to be in other groups":   {func(_ *api.Cluster, u *api.AuthInfo) { u.ImpersonateGroups = []string{canary} }, "as-groups"},
		"to have other extras": {func(_ *api.Cluster, u *api.AuthInfo) {
			u.ImpersonateUserExtra = map[string][]string{canary: {canary}}
		}, "as-user-extra"},
		"a user name": {func(_ *api.Cluster, u *api.AuthInfo) { u.Username = canary }, "username"},
		"a password":  {func(_ *api.Cluster, u *api.AuthInfo) { u.Password = canary }, "password"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file, cluster, user := usable()
			test.change(cluster, user)
			wantInvalid(t, write(t, file), "", "field "+test.field+" is refused")
		})
	}
}

// wantInvalid checks that a kubeconfig is refused with these words and without a secret.
func wantInvalid(t *testing.T, secret map[string][]byte, contextName string, words ...string) {
	t.Helper()
	_, err := New(Options{}).Prepare(driver.Endpoint{Credentials: secret, Context: contextName})
	got, ok := errors.AsType[*driver.Error](err)
	if !ok {
		t.Fatalf("error %v, want a refusal", err)
	}
	if got.Stage != driver.StagePrepare || got.Started || got.Reason != driver.CredentialsInvalid && got.Reason != driver.CredentialsMissing {
		t.Errorf("%s at %q", got.Reason, got.Stage)
	}
	for _, word := range words {
		if !strings.Contains(got.Message, word) {
			t.Errorf("message %q, want %q in it", got.Message, word)
		}
	}
	if strings.Contains(got.Message, canary) || got.Message != driver.Sanitize(got.Message) {
		t.Errorf("message %q holds a secret, or is not plain", got.Message)
	}
}

func TestKubeconfigsThatCannotBeUsedSayWhatToDo(t *testing.T) {
	certificate, key := clientPair(t, -time.Hour, time.Hour)
	_, otherKey := clientPair(t, -time.Hour, time.Hour)
	oldCertificate, oldKey := clientPair(t, -2*time.Hour, -time.Hour)
	earlyCertificate, earlyKey := clientPair(t, time.Hour, 2*time.Hour)
	withPair := func(certificate, key []byte) func(*api.Config, *api.Cluster, *api.AuthInfo) {
		return func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
			u.ClientCertificateData, u.ClientKeyData = certificate, key
		}
	}
	server := func(url string) func(*api.Config, *api.Cluster, *api.AuthInfo) {
		return func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = url }
	}
	tests := map[string]struct {
		change func(*api.Config, *api.Cluster, *api.AuthInfo)
		word   string
	}{
		"no current context":            {func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.CurrentContext = "" }, "it has prod"},
		"an unknown current context":    {func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.CurrentContext = "test" }, "no context \"test\""},
		"a context without its cluster": {func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.Clusters = nil }, "cluster \"c\""},
		"a context without its user":    {func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.AuthInfos = nil }, "user \"u\""},
		"no server":                     {server(""), "field server"},
		"a server without TLS":          {server("http://prod.example.com"), "field server"},
		"a server without a scheme":     {server("prod.example.com:6443"), "field server"},
		"a server with a password":      {server("https://" + canary + ":" + canary + "@prod.example.com"), "field server"},
		"a server with a query":         {server("https://prod.example.com?token=" + canary), "field server"},
		"a server whose path leads out": {server("https://prod.example.com/k8s/%2e%2e/other"), "dots"},
		"an authority that is none": {func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) {
			c.CertificateAuthorityData = []byte(canary)
		}, "certificate-authority-data"},
		"no credentials":                  {func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Token = "" }, "no credentials"},
		"a token with a space":            {func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Token = canary + " x" }, "field token"},
		"a token with a line break":       {func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Token = canary + "\nX: y" }, "field token"},
		"a certificate without a key":     {withPair(certificate, nil), "client-key-data"},
		"a key without a certificate":     {withPair(nil, key), "client-certificate-data"},
		"a key of another certificate":    {withPair(certificate, otherKey), "do not belong together"},
		"a certificate that is none":      {withPair([]byte(canary), key), "cannot be read"},
		"a certificate that has expired":  {withPair(oldCertificate, oldKey), "expired"},
		"a certificate of the future":     {withPair(earlyCertificate, earlyKey), "not valid yet"},
		"a context name that is hostile":  {func(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) { f.CurrentContext = "\x1b[31m" }, "no context"},
		"more contexts than can be named": {manyContexts, "..."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file, cluster, user := usable()
			test.change(file, cluster, user)
			wantInvalid(t, write(t, file), "", test.word)
		})
	}
}

func manyContexts(f *api.Config, _ *api.Cluster, _ *api.AuthInfo) {
	f.CurrentContext = ""
	for range 100 {
		f.Contexts[strings.Repeat("ü", 1+len(f.Contexts))] = &api.Context{}
	}
}

func TestSecretsWithoutAKubeconfig(t *testing.T) {
	tests := map[string]struct {
		secret map[string][]byte
		word   string
	}{
		"none":                 {nil, "holds no kubeconfig"},
		"an empty one":         {map[string][]byte{keyKubeconfig: {}}, "holds no kubeconfig"},
		"one that is too long": {map[string][]byte{keyKubeconfig: make([]byte, 64<<10+1)}, "64 KiB"},
		"one that is no YAML":  {map[string][]byte{keyKubeconfig: []byte("{" + canary)}, "cannot be read"},
		"one of another kind":  {map[string][]byte{keyKubeconfig: []byte("apiVersion: v1\nkind: Secret\ndata: {a: " + canary + "}")}, "cannot be read"},
		"one with a wrong type": {map[string][]byte{
			keyKubeconfig: []byte("apiVersion: v1\nkind: Config\nusers: [{name: u, user: {token: [" + canary + "]}}]"),
		}, "cannot be read"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { wantInvalid(t, test.secret, "", test.word) })
	}
}

func TestWhatOtherContextsHoldDoesNotMatter(t *testing.T) {
	file, _, _ := usable()
	file.AuthInfos["other"] = &api.AuthInfo{Password: canary}
	file.Contexts["other"] = &api.Context{Cluster: "c", AuthInfo: "other"}
	secret := write(t, file)
	if _, err := New(Options{}).Prepare(driver.Endpoint{Credentials: secret}); err != nil {
		t.Errorf("the current context: %v", err)
	}
	wantInvalid(t, secret, "other", "field password")
	wantInvalid(t, secret, "third", "it has other, prod")
}

func TestWhatIsTakenFromAKubeconfig(t *testing.T) {
	authority, _ := clientPair(t, -time.Hour, time.Hour)
	file, cluster, user := usable()
	cluster.Server, cluster.TLSServerName, cluster.CertificateAuthorityData = "https://[2001:db8::1]/k8s/clusters/c-1/", "kubernetes", authority
	cluster.DisableCompression = true
	user.Token = "token\n"
	got, err := readKubeconfig(write(t, file), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		host: "[2001:db8::1]", path: "/k8s/clusters/c-1", address: "[2001:db8::1]:443", serverName: "kubernetes",
		authority: authority, token: "token", namespace: "web",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}, keepaliveTimes{})); diff != "" {
		t.Error(diff)
	}
	secure, err := got.tls()
	if err != nil || secure.RootCAs == nil || secure.ServerName != "kubernetes" {
		t.Errorf("TLS %+v, error %v", secure, err)
	}
}

// kubectl and client-go take the data where a path stands beside it.
func TestTheDataWinsOverAPathBesideIt(t *testing.T) {
	certificate, key := clientPair(t, -time.Hour, time.Hour)
	file, cluster, user := usable()
	cluster.CertificateAuthority, cluster.CertificateAuthorityData = "/ca.crt", certificate
	user.Token, user.ClientCertificate, user.ClientKey = "", "/tls.crt", "/tls.key"
	user.ClientCertificateData, user.ClientKeyData = certificate, key
	got, err := readKubeconfig(write(t, file), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.authority, certificate) || !bytes.Equal(got.certificate, certificate) || !bytes.Equal(got.key, key) {
		t.Error("the data was not taken")
	}
	for field, remove := range map[string]func(){
		"client-key":            func() { user.ClientKeyData = nil },
		"client-certificate":    func() { user.ClientCertificateData = nil },
		"certificate-authority": func() { cluster.CertificateAuthorityData = nil },
	} {
		remove()
		wantInvalid(t, write(t, file), "", "field "+field+" is refused")
		user.ClientKeyData, user.ClientCertificateData, cluster.CertificateAuthorityData = key, certificate, certificate
	}
}

// The keys have the form of RSA keys only. A real one of this length takes minutes to make.
func TestKeysBeyondTheBoundAreRefused(t *testing.T) {
	certificate, _ := clientPair(t, -time.Hour, time.Hour)
	number := new(big.Int).SetBit(big.NewInt(1), 16383, 1)
	der, err := asn1.Marshal(struct{ Version, N, E, D, P, Q *big.Int }{new(big.Int), number, big.NewInt(3), number, number, number})
	if err != nil {
		t.Fatal(err)
	}
	longKey := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
	for name, c := range map[string]struct {
		change func(*api.Cluster, *api.AuthInfo)
		words  []string
	}{
		"a key of 16,384 bits": {
			func(_ *api.Cluster, u *api.AuthInfo) { u.ClientCertificateData, u.ClientKeyData = certificate, longKey },
			[]string{"client-key-data", "8,192 bits", "put a shorter key"},
		},
		"authorities with long keys": {
			func(c *api.Cluster, _ *api.AuthInfo) { c.CertificateAuthorityData = longAuthority(t, number) },
			[]string{"certificate-authority-data", "8,192 bits"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			file, cluster, user := usable()
			c.change(cluster, user)
			wantInvalid(t, write(t, file), "", c.words...)
		})
	}
}

// longAuthority returns a certificate for an RSA key with this modulus.
func longAuthority(t *testing.T, modulus *big.Int) []byte {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: modulus, E: 65537}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func FuzzKubeconfig(f *testing.F) {
	file, cluster, user := usable()
	f.Add(write(f, file)[keyKubeconfig], "")
	cluster.InsecureSkipTLSVerify, user.Exec = true, &api.ExecConfig{Command: canary}
	f.Add(write(f, file)[keyKubeconfig], "prod")
	f.Add([]byte("{"), "x")
	f.Fuzz(func(t *testing.T, text []byte, contextName string) {
		got, err := readKubeconfig(map[string][]byte{keyKubeconfig: text}, contextName, time.Now())
		if err != nil {
			classified, ok := errors.AsType[*driver.Error](err)
			if !ok || classified.Message != driver.Sanitize(classified.Message) {
				t.Errorf("error %#v", err)
			}
			return
		}
		address, err := got.url("/api", "")
		if err != nil || address.Scheme != "https" || address.User != nil || address.Hostname() == "" {
			t.Errorf("URL %v, error %v", address, err)
		}
		secure, err := got.tls()
		if err != nil || secure.ServerName == "" {
			t.Errorf("TLS %+v, error %v", secure, err)
		}
		if got.token == "" && len(got.certificate) == 0 || strings.ContainsAny(got.token, "\r\n ") {
			t.Errorf("credentials %q", got.token)
		}
	})
}

func pemOf(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}
