package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Unowned collects how many targets no replica has taken on, if that is known.
type Unowned func(ctx context.Context) (targets int, known bool)

var _ prometheus.Collector = Unowned(nil)

// patience bounds how long a scrape waits for a cache.
const patience = time.Second

var unowned = prometheus.NewDesc("connpool_targets_unowned",
	"Targets that the leading replica has known for 20 s and has not taken on: it neither holds them nor has said why not.", nil, nil)

// Describe implements prometheus.Collector.
func (Unowned) Describe(out chan<- *prometheus.Desc) { out <- unowned }

// Collect implements prometheus.Collector.
func (u Unowned) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if targets, known := u(ctx); known {
		out <- prometheus.MustNewConstMetric(unowned, prometheus.GaugeValue, float64(targets))
	}
}
