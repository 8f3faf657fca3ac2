package operator

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"

	certutil "k8s.io/client-go/util/cert"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/connpool/connpool/internal/apiserver"
)

// changing is a certificate that is another one at each look.
type changing struct {
	servingCertificate

	pairs [][2][]byte
}

func (c *changing) CurrentCertKeyContent() (certificate, key []byte) {
	pair := c.pairs[0]
	c.pairs = c.pairs[1:]
	return pair[0], pair[1]
}

func TestTheMetricsHaveTheCertificateOfTheLiveAPI(t *testing.T) {
	certificate := &changing{}
	for _, name := range []string{"first", "second"} {
		text, key, err := certutil.GenerateSelfSignedCertKey(name, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		certificate.pairs = append(certificate.pairs, [2][]byte{text, key})
	}
	var metrics metricsserver.Options
	serveMetricsWith(certificate, &metrics)
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, apply := range metrics.TLSOpts {
		apply(config)
	}
	if !slices.Equal(config.CipherSuites, apiserver.CipherSuites()) || len(config.CipherSuites) == 0 {
		t.Errorf("the metrics take the suites %v, want those of the live API", config.CipherSuites)
	}
	for _, pair := range certificate.pairs {
		want, err := tls.X509KeyPair(pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := config.GetCertificate(nil); err != nil || !bytes.Equal(got.Certificate[0], want.Certificate[0]) {
			t.Errorf("the metrics have another certificate, error %v", err)
		}
	}
}

func TestTheCertificateNamesTheMetricsOfThisInstallation(t *testing.T) {
	for service, want := range map[string]string{
		"connpool-live":  "connpool-metrics",
		"pools-eu-live":  "pools-eu-metrics",
		"named-by-hands": "named-by-hands-metrics",
	} {
		if got := (&LiveOptions{Service: service}).metricsService(); got != want {
			t.Errorf("beside %s it is %s, want %s", service, got, want)
		}
	}
}
