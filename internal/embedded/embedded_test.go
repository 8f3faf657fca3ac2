package embedded_test

import (
	"crypto/x509"
	"testing"

	"github.com/connpool/connpool/internal/embedded"
)

func TestAuthoritiesAreTrustedWhereTheFileSystemHasNone(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("SSL_CERT_FILE", empty+"/none")
	t.Setenv("SSL_CERT_DIR", empty)
	embedded.Authorities()
	embedded.Authorities() // a second call is harmless
	pool, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if pool.Equal(x509.NewCertPool()) {
		t.Error("no authority is trusted")
	}
}
