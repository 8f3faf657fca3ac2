package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/connpool/connpool/test/dockerd"
)

// Output whose end was cut off must not look like all of it: crypto/tls accepts an end
// between two records.
func TestOnlyCloseNotifyIsAProperEnd(t *testing.T) {
	tests := map[string]struct {
		end  func(engine *tls.Conn) error
		want error
	}{
		"the engine sends close_notify": {(*tls.Conn).Close, nil},
		"the transport is cut":          {func(engine *tls.Conn) error { return engine.NetConn().Close() }, errCut},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			near, far, config := tlsPair(t)
			served := make(chan error, 1)
			go func() {
				_, err := far.Write([]byte("output"))
				served <- errors.Join(err, tc.end(far))
			}()
			w := &wire{Conn: near, sockets: &sockets{}, encrypted: true}
			got, err := io.ReadAll(tls.Client(w, config))
			if string(got) != "output" || !errors.Is(err, tc.want) {
				t.Errorf("it reads %q and then %v, want %v", got, err, tc.want)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// tlsPair returns a transport, the engine's encrypted end of it, and the client's
// configuration.
func tlsPair(t *testing.T) (near net.Conn, far *tls.Conn, config *tls.Config) {
	t.Helper()
	authority := newAuthority(t)
	cert, key := issue(t, authority, dockerd.ServerTemplate())
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Certificate)
	return near, tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{pair}}),
		&tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}
