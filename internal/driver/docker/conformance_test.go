package docker

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/test/dockerd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests end the engine that they share before goleak looks for goroutines.
type tests struct{ *testing.M }

// Run implements goleak.TestingM.
func (t tests) Run() int {
	defer func() {
		if shared != nil {
			shared.Stop()
		}
	}()
	return t.M.Run()
}

// shared is the engine of all tests that do not break it. Starting an engine takes
// longer than most tests.
var shared *dockerd.Engine

func sharedEngine(t testing.TB) *dockerd.Engine {
	t.Helper()
	if shared == nil {
		engine, err := dockerd.New(t.Context(), dockerd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		shared = engine
	}
	return shared
}

// unixEndpoint returns the endpoint of an engine's unix socket.
func unixEndpoint(engine *dockerd.Engine) driver.Endpoint {
	return driver.Endpoint{
		Network: "unix", Address: engine.Socket, Dial: new(net.Dialer).DialContext,
		KeepaliveInterval: 5 * time.Second, KeepaliveTimeout: 5 * time.Second,
	}
}

// tcpEndpoint returns the endpoint of an engine with mutual TLS.
func tcpEndpoint(engine *dockerd.Engine) driver.Endpoint {
	endpoint := unixEndpoint(engine)
	endpoint.Network, endpoint.Address = "tcp", engine.TCP
	endpoint.Credentials = map[string][]byte{"ca.crt": engine.CA, "tls.crt": engine.Cert, "tls.key": engine.Key}
	return endpoint
}

var transports = map[string]func(*dockerd.Engine) driver.Endpoint{"unix": unixEndpoint, "TLS": tcpEndpoint}

// startContainer runs a container that shares /tmp with this machine.
func startContainer(t testing.TB, engine *dockerd.Engine) driver.Place {
	t.Helper()
	name, err := engine.Container(t.Context(), "--volume=/tmp:/tmp")
	if err != nil {
		t.Fatal(err)
	}
	return driver.Place{Container: name}
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

func TestConformance(t *testing.T) {
	engine := dockerd.Start(t)
	place := startContainer(t, engine)
	for name, endpointOf := range transports {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Harness {
				if err := engine.Restart(context.Background()); err != nil {
					t.Fatal(err)
				}
				return drivertest.Harness{
					Driver:          New(Options{}),
					Endpoint:        endpointOf(engine),
					KillConnections: engine.Kill,
					Signals:         true,
					Terminals:       true,
					Text:            true,
					Place:           place,
				}
			})
		})
	}
}
