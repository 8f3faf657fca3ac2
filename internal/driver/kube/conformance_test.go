package kube

import (
	"context"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		kube, sockets, endpoint := New(Options{}), new(counted), admin(t)
		endpoint.Dial = sockets.dial
		return drivertest.Harness{
			Dial: func(ctx context.Context, trace driver.TraceFunc) (driver.Conn, error) {
				endpoint := endpoint
				endpoint.Trace = trace
				dialer, err := kube.Prepare(endpoint)
				if err != nil {
					return nil, err
				}
				return dialer.Dial(ctx)
			},
			KillConnections: sockets.kill,
			Terminals:       true,
			Text:            true,
			Place:           web,
		}
	})
}
