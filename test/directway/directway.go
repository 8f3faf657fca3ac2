// Package directway is test support for what goes past kube-apiserver: two servers with real
// certificates, of which one says where the other one is.
//
//	f := directway.Start(t)
//	found, err := direct.Finder{Dial: f.Dial}.Find(ctx, f.Config("token"))
//
// Trade-off: it answers only what package direct asks. test/integration has real servers.
package directway

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
)

// ServiceName is what the certificate of the operator says.
const ServiceName = "connpool-live.connpool-system.svc"

// Fixture is the two servers. Its fields may be changed between requests.
type Fixture struct {
	// Kube and Operator are the servers.
	Kube, Operator *httptest.Server
	// Authority certifies the operator, in PEM. The APIService says what Bundle is.
	Authority, Bundle []byte
	// NoService leaves the Service out of the APIService.
	NoService bool
	// Forbidden answers 403 for the APIService.
	Forbidden bool
	// Unauthorized answers 401 at the operator, and Elsewhere redirects to this URL.
	Unauthorized bool
	Elsewhere    string
	// Refused has connections to the operator refused.
	Refused bool

	mu   sync.Mutex // guards what follows
	seen []string
}

// certificate returns a certificate, followed by its authority, and its key, in PEM. It is
// made once, because that takes long.
var certificate = sync.OnceValues(func() (pair [2][]byte, err error) {
	pair[0], pair[1], err = cert.GenerateSelfSignedCertKey(ServiceName, nil, nil)
	return pair, err
})

// Start starts the servers, which end with the test.
func Start(t *testing.T) *Fixture {
	t.Helper()
	f := &Fixture{}
	f.Kube = httptest.NewTLSServer(http.HandlerFunc(f.kube))
	t.Cleanup(f.Kube.Close)
	f.Operator = httptest.NewUnstartedServer(http.HandlerFunc(f.operator))
	made, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	chain, key := made[0], made[1]
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	f.Authority = chain[strings.LastIndex(string(chain), "-----BEGIN"):]
	f.Bundle = f.Authority
	f.Operator.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	f.Operator.StartTLS()
	t.Cleanup(f.Operator.Close)
	return f
}

// Config returns a configuration for kube-apiserver with a token.
func (f *Fixture) Config(token string) *rest.Config {
	return &rest.Config{Host: f.Kube.URL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: f.KubeAuthority()}}
}

// KubeAuthority certifies kube-apiserver, in PEM.
func (f *Fixture) KubeAuthority() []byte {
	text, _ := cert.EncodeCertificates(f.Kube.Certificate()) // of a certificate that was parsed
	return text
}

// Dial connects to the operator by its name.
func (f *Fixture) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if host, _, _ := net.SplitHostPort(address); host != ServiceName || f.Refused {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: connection refused", address)}
	}
	return (&net.Dialer{}).DialContext(ctx, network, f.Operator.Listener.Addr().String())
}

// Requests returns the requests until now, each with its server and its credentials, and
// forgets them.
func (f *Fixture) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := slices.Clone(f.seen)
	f.seen = nil
	return seen
}

func (f *Fixture) note(server string, request *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, server+" "+request.URL.Path+" "+request.Header.Get("Authorization"))
}

func (f *Fixture) kube(w http.ResponseWriter, request *http.Request) {
	f.note("kube-apiserver", request)
	switch {
	case f.Forbidden:
		answer(w, http.StatusForbidden, metav1.StatusReasonForbidden, `User "alice" cannot get resource "apiservices"`)
	case f.NoService:
		_, _ = w.Write([]byte(`{"spec":{}}`))
	default:
		_, _ = fmt.Fprintf(w, `{"spec":{"service":{"name":"connpool-live","namespace":"connpool-system"},"caBundle":%q}}`,
			base64.StdEncoding.EncodeToString(f.Bundle))
	}
}

func (f *Fixture) operator(w http.ResponseWriter, request *http.Request) {
	f.note("operator", request)
	switch {
	case f.Unauthorized:
		answer(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
	case f.Elsewhere != "":
		http.Redirect(w, request, f.Elsewhere, http.StatusFound)
	default:
		_, _ = w.Write([]byte(`{"kind":"APIResourceList"}`))
	}
}

func answer(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: message,
	})
}
