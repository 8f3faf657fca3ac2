package metrics

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// served is a certificate that expires at a time.
type served struct{ certificate, key []byte }

func (s served) CurrentCertKeyContent() (certificate, key []byte) { return s.certificate, s.key }

func expiring(t *testing.T, at time.Time) served {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: at}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return served{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
}

func TestTheProcessTellsItsBuildItsLeadItsLostAuditAndWhenItsCertificateExpires(t *testing.T) {
	elected := make(chan struct{})
	collectors := Process("v1.2.3", elected, expiring(t, time.Unix(2_000_000_000, 0)), func() uint64 { return 7 })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors...)
	want := func(leader string) {
		t.Helper()
		err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP connpool_audit_lines_dropped_total Audit lines that were lost because what reads the log was too slow.
# TYPE connpool_audit_lines_dropped_total counter
connpool_audit_lines_dropped_total 7
# HELP connpool_build_info Always 1; the labels say what this replica was built from. The revision is empty if the build does not know it.
# TYPE connpool_build_info gauge
connpool_build_info{goversion="`+runtime.Version()+`",revision="`+revision()+`",version="v1.2.3"} 1
# HELP connpool_certificate_expiry_timestamp_seconds When the certificate that this replica serves with expires, in seconds since 1970; NaN while it cannot be read.
# TYPE connpool_certificate_expiry_timestamp_seconds gauge
connpool_certificate_expiry_timestamp_seconds{certificate="serving"} 2e+09
# HELP connpool_leader 1 if this replica leads and so holds the connections, otherwise 0.
# TYPE connpool_leader gauge
connpool_leader `+leader+"\n"))
		if err != nil {
			t.Error(err)
		}
	}
	want("0")
	close(elected)
	want("1")
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("problems %v, %v", problems, err)
	}
}

func TestEveryMetricIsDocumentedAndTheReverse(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(connpool_\\w+)`").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, row[1])
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		for _, c := range append(Process("", nil, served{}, nil), NewCollector(small()), Unowned(nil)) {
			c.Describe(descs)
		}
	}()
	var registered []string
	for d := range descs {
		registered = append(registered, regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1])
	}
	slices.Sort(documented)
	slices.Sort(registered)
	if diff := cmp.Diff(registered, documented); diff != "" {
		t.Errorf("metrics in code (-) and in docs/reference/metrics.md (+):\n%s", diff)
	}
}
