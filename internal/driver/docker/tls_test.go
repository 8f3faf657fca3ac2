package docker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

// pong answers as an engine answers a ping.
var pong = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Server", "Docker/20.10.24 (linux)")
	_, _ = w.Write([]byte("OK"))
})

// serveTLS starts the TLS server of an engine. One authority has issued its certificate,
// and another those of its clients.
func serveTLS(t *testing.T, server, clients *dockerd.Authority, template *x509.Certificate, change func(*tls.Config)) string {
	t.Helper()
	cert, key := issue(t, server, template)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(clients.Certificate)
	engine := httptest.NewUnstartedServer(pong)
	engine.Config.ErrorLog = quiet
	engine.TLS = &tls.Config{MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	if change != nil {
		change(engine.TLS)
	}
	engine.StartTLS()
	t.Cleanup(engine.Close)
	return engine.Listener.Addr().String()
}

func tlsEndpoint(address string, secret map[string][]byte) driver.Endpoint {
	return driver.Endpoint{Network: "tcp", Address: address, Credentials: secret, Dial: new(net.Dialer).DialContext}
}

func TestTheEnginesCertificateIsVerifiedAndOursIsShown(t *testing.T) {
	authority, other := newAuthority(t), newAuthority(t)
	server := func(change func(*x509.Certificate)) *x509.Certificate {
		template := dockerd.ServerTemplate()
		if change != nil {
			change(template)
		}
		return template
	}
	max12 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	max11 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }
	tests := map[string]struct {
		issuer, clients *dockerd.Authority
		template        *x509.Certificate
		change          func(*tls.Config)
		reason          driver.Reason // none when empty
		stage           driver.Stage
		words           string
	}{
		"a good certificate over TLS 1.3": {issuer: authority, clients: authority, template: server(nil)},
		"a good certificate over TLS 1.2": {issuer: authority, clients: authority, template: server(nil), change: max12},
		"TLS 1.1":                         {issuer: authority, clients: authority, template: server(nil), change: max11, reason: driver.ProtocolError, stage: driver.StageTLS, words: "TLS 1.2 or later"},
		"a certificate for another name": {
			issuer: authority, clients: authority, reason: driver.CertificateInvalid, stage: driver.StageTLS, words: "not for 127.0.0.1 but for build-1",
			template: server(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"build-1"} }),
		},
		"a certificate for no name": {
			issuer: authority, clients: authority, reason: driver.CertificateInvalid, stage: driver.StageTLS, words: "no name at all",
			template: server(func(c *x509.Certificate) {
				c.IPAddresses, c.DNSNames, c.Subject = nil, nil, pkix.Name{CommonName: "127.0.0.1"}
			}),
		},
		"an expired certificate": {
			issuer: authority, clients: authority, reason: driver.CertificateInvalid, stage: driver.StageTLS, words: "renew it",
			template: server(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		},
		"a certificate of an unknown authority": {issuer: other, clients: authority, template: server(nil), reason: driver.CertificateInvalid, stage: driver.StageTLS, words: "ca.crt"},
		"our certificate is refused over TLS 1.3": {
			issuer: authority, clients: other, template: server(nil),
			reason: driver.AuthenticationFailed, stage: driver.StageAuthentication, words: "refuses the Secret's certificate",
		},
		"our certificate is refused over TLS 1.2": {
			issuer: authority, clients: other, template: server(nil), change: max12,
			reason: driver.AuthenticationFailed, stage: driver.StageAuthentication, words: "refuses the Secret's certificate",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			address := serveTLS(t, tc.issuer, tc.clients, tc.template, tc.change)
			conn, err := dialWith(t.Context(), Options{}, tlsEndpoint(address, secretOf(t, authority)))
			if tc.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				return
			}
			if got := wantError(t, err, tc.reason, tc.stage); !strings.Contains(got.Message, tc.words) {
				t.Errorf("message %q, want it to say %q", got.Message, tc.words)
			}
		})
	}
}

func TestAnEngineWithoutTLSIsRecognized(t *testing.T) {
	engine := httptest.NewServer(pong)
	defer engine.Close()
	engine.Config.ErrorLog = quiet
	_, err := dialWith(t.Context(), Options{}, tlsEndpoint(engine.Listener.Addr().String(), secretOf(t, newAuthority(t))))
	wantError(t, err, driver.ProtocolError, driver.StageTLS)
}

func TestARealEngineRefusesACertificateOfAnotherAuthority(t *testing.T) {
	engine := sharedEngine(t)
	endpoint := tcpEndpoint(engine)
	otherSecret := secretOf(t, newAuthority(t))
	endpoint.Credentials["tls.crt"], endpoint.Credentials["tls.key"] = otherSecret["tls.crt"], otherSecret["tls.key"]
	for range 20 { // because the alert or the reset may come first
		_, err := dialWith(t.Context(), Options{}, endpoint)
		wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
	}
}

func TestTheTraceSaysWhoProvedWhat(t *testing.T) {
	engine := sharedEngine(t)
	endpoint := tcpEndpoint(engine)
	var told []string
	endpoint.Trace = func(stage driver.Stage, found string) { told = append(told, string(stage)+": "+found) }
	conn := mustDial(t, Options{}, endpoint)
	want := []string{`TLS: TLS 1.3; the engine showed the certificate of "dockerd"`, `authentication: the engine accepted the certificate of "connpool"`, "session: Docker 20."}
	for i, prefix := range want {
		if i >= len(told) || !strings.HasPrefix(told[i], prefix) {
			t.Fatalf("told %q, want %q", told, want)
		}
	}
	if version := conn.Info().ServerVersion; !strings.HasPrefix(version, "Docker ") || !strings.Contains(version, "(API 1.") {
		t.Errorf("server version %q", version)
	}
}

func TestADialThatFailsSaysWhy(t *testing.T) {
	missing := driver.Endpoint{Network: "unix", Address: "/nonexistent/docker.sock", Dial: new(net.Dialer).DialContext}
	_, err := dialWith(t.Context(), Options{}, missing)
	if got := wantError(t, err, driver.Unreachable, driver.StageConnect); !strings.Contains(got.Message, "there is no socket") {
		t.Errorf("message %q", got.Message)
	}
	denied := &driver.Error{Reason: driver.AddressDenied, Stage: driver.StageConnect, Message: "denied"}
	missing.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, denied }
	_, err = dialWith(t.Context(), Options{}, missing)
	wantError(t, err, driver.AddressDenied, driver.StageConnect)
}
