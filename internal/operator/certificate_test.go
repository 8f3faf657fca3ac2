package operator

import (
	"bytes"
	"crypto/tls"
	"testing"

	certutil "k8s.io/client-go/util/cert"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
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
