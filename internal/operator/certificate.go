package operator

import (
	"context"
	"crypto/tls"
	"fmt"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/serving"
)

// metricsService is the Service of the metrics in config/manager.
const metricsService = "connpool-metrics"

// servingCertificate is what the live API and the metrics serve with.
type servingCertificate = dynamiccertificates.CertKeyContentProvider

// certificate returns the certificate of the files, or without files one that the
// operator issues itself. It returns nil when the live API is off.
func (o *LiveOptions) certificate(ctx context.Context, cluster *rest.Config) (servingCertificate, error) {
	if o.off() {
		return nil, nil //nolint:nilnil // nothing needs one
	}
	if o.CertFile != "" {
		files, err := dynamiccertificates.NewDynamicServingContentFromFiles("live-api", o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of the live API: %w; check --tls-cert-file and --tls-private-key-file", err)
		}
		return files, nil
	}
	rotator, err := serving.NewCertRotator(cluster, serving.Options{
		Namespace: o.Namespace, Service: o.Service, Others: []string{metricsService},
		APIService: live.GroupVersion.Version + "." + live.GroupName,
	})
	if err != nil {
		return nil, err
	}
	return rotator, rotator.EnsureCertificate(ctx)
}

// serveMetricsWith lets the metrics have the same certificate as the live API, so
// that a scraper can verify it. Without one, controller-runtime makes one for the
// metrics that no scraper can verify.
func serveMetricsWith(c servingCertificate, metrics *metricsserver.Options) {
	if c == nil {
		return
	}
	metrics.TLSOpts = append(metrics.TLSOpts, func(config *tls.Config) {
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.X509KeyPair(c.CurrentCertKeyContent())
			return &pair, err
		}
	})
}
