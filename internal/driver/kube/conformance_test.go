package kube

import (
	"context"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/test/netfault"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		proxy, endpoint := through(t, admin(t))
		kube := New(Options{})
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
			// A server that answers again at once is not dead, whatever becomes of sockets.
			KillConnections: func() {
				proxy.Set(netfault.Refuse)
				proxy.Reset()
			},
			Terminals: true,
			Text:      true,
			Place:     web,
		}
	})
}
