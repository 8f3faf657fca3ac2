package kube

import (
	"testing"

	"github.com/connpool/connpool/internal/driver/drivertest"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		sockets, endpoint := new(counted), admin(t)
		endpoint.Dial = sockets.dial
		return drivertest.Harness{
			Driver:          New(Options{}),
			Endpoint:        endpoint,
			KillConnections: sockets.kill,
			Terminals:       true,
			Text:            true,
			Place:           web,
		}
	})
}
