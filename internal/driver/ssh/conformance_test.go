package ssh

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/test/openssh"
	"github.com/connpool/connpool/test/sshserver"
)

// endpointOf returns an endpoint with one private key.
func endpointOf(address, user, knownHosts string, privateKey []byte) driver.Endpoint {
	return driver.Endpoint{
		Address: address, User: user, KnownHosts: []byte(knownHosts),
		Credentials:       map[string][]byte{"ssh-privatekey": privateKey},
		Dial:              new(net.Dialer).DialContext,
		KeepaliveInterval: 5 * time.Second, KeepaliveTimeout: 5 * time.Second,
	}
}

func startOpenSSH(t *testing.T, config ...string) (*openssh.Server, driver.Endpoint) {
	t.Helper()
	server, err := openssh.Start(t.Context(), openssh.Options{Config: config, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server, endpointOf(server.Addr, server.User, server.KnownHosts, server.PrivateKey)
}

func startEmbedded(t *testing.T, options sshserver.Options) (*sshserver.Server, driver.Endpoint) {
	t.Helper()
	server, err := sshserver.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server, endpointOf(server.Addr, "anybody", server.KnownHosts, server.PrivateKey)
}

func dialWith(ctx context.Context, options Options, endpoint driver.Endpoint) (driver.Conn, error) {
	dialer, err := New(options).Prepare(endpoint)
	if err != nil {
		return nil, err
	}
	return dialer.Dial(ctx)
}

func mustDial(t testing.TB, options Options, endpoint driver.Endpoint) *conn {
	t.Helper()
	dialed, err := dialWith(t.Context(), options, endpoint)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, driver.AsError(err).Err)
	}
	t.Cleanup(func() { _ = dialed.Close() })
	return dialed.(*conn)
}

func TestConformanceAgainstOpenSSH(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		server, endpoint := startOpenSSH(t)
		return drivertest.Harness{
			Driver:          New(Options{KillGrace: 500 * time.Millisecond}),
			Endpoint:        endpoint,
			KillConnections: server.KillConnections,
			// sshd passes signals on only with privilege separation, which root does not get.
			Signals: os.Geteuid() != 0,
			// sshd may be unable to give a terminal to its user unless it runs as root.
			Terminals: os.Geteuid() == 0,
		}
	})
}

func TestConformanceAgainstAServerInGo(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		server, endpoint := startEmbedded(t, sshserver.Options{})
		return drivertest.Harness{
			Driver:          New(Options{}),
			Endpoint:        endpoint,
			KillConnections: server.KillConnections,
			Signals:         true,
			Terminals:       true,
		}
	})
}

func startEmbeddedWithPassword(t *testing.T) (*sshserver.Server, driver.Endpoint) {
	t.Helper()
	server, endpoint := startEmbedded(t, sshserver.Options{Password: "right"})
	endpoint.Credentials = map[string][]byte{"password": []byte("right")}
	return server, endpoint
}
