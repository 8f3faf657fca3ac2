package metrics

import (
	"crypto/tls"
	"math"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificate is a certificate that is served. Its content may change.
type Certificate interface {
	CurrentCertKeyContent() (certificate, key []byte)
}

// Process returns what there is to know of this replica: what it was built from, whether
// it leads, which it does once elected is closed, and when its certificate, if it serves
// with one, expires, and how many of its audit lines were dropped.
func Process(
	version string, elected <-chan struct{}, certificate Certificate, auditDropped func() uint64,
) []prometheus.Collector {
	collectors := []prometheus.Collector{buildInfo(version), leads(elected), lostAudit(auditDropped)}
	if certificate == nil {
		return collectors
	}
	return append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "connpool_certificate_expiry_timestamp_seconds",
		Help:        "When the certificate that this replica serves with expires, in seconds since 1970; NaN while it cannot be read.",
		ConstLabels: prometheus.Labels{"certificate": "serving"},
	}, func() float64 { return expiry(certificate) }))
}

func buildInfo(version string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "connpool_build_info",
		Help: "Always 1; the labels say what this replica was built from. The revision is empty if the build does not know it.",
		ConstLabels: prometheus.Labels{
			"version": version, "revision": revision(), "goversion": runtime.Version(),
		},
	})
	info.Set(1)
	return info
}

func revision() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}

func leads(elected <-chan struct{}) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connpool_leader", Help: "1 if this replica leads and so holds the connections, otherwise 0.",
	}, func() float64 {
		select {
		case <-elected:
			return 1
		default:
			return 0
		}
	})
}

func lostAudit(dropped func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "connpool_audit_lines_dropped_total", Help: "Audit lines that were lost because what reads the log was too slow.",
	}, func() float64 { return float64(dropped()) })
}

func expiry(certificate Certificate) float64 {
	pair, err := tls.X509KeyPair(certificate.CurrentCertKeyContent())
	if err != nil {
		return math.NaN()
	}
	return float64(pair.Leaf.NotAfter.Unix())
}
