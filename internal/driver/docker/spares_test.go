package docker

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/test/openssh"
)

// A command that starts when spares are ready makes no handshake before its start.
func TestACommandOnAWarmConnectionDialsNothingFirst(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	for name, endpointOf := range transports {
		conn := mustDial(t, Options{}, endpointOf(engine))
		mustRun(t, conn, place) // leaves a socket for requests
		awaitSpares(t, conn)
		conn.dialer.endpoint.Reopen = func(context.Context, string, string) (net.Conn, error) {
			return nil, net.ErrClosed // so that only what is ready can serve
		}
		if out, err := run(conn, place, "echo served"); out != "served\n" || err != nil {
			t.Errorf("%s: output %q, error %v", name, out, err)
		}
	}
}

// A dial must not wait for a jump host; what is opened later may.
func TestOnlyTheFirstSocketIsOpenedByDial(t *testing.T) {
	engine := sharedEngine(t)
	for name, endpointOf := range transports {
		var dials atomic.Int64
		endpoint := endpointOf(engine)
		endpoint.Reopen = endpoint.Dial
		endpoint.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return endpoint.Reopen(ctx, network, address)
		}
		awaitSpares(t, mustDial(t, Options{}, endpoint))
		if n := dials.Load(); n != 1 {
			t.Errorf("%s: Dial was called %d times, want once", name, n)
		}
	}
}

func awaitSpares(t *testing.T, conn *conn) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if conn.sockets.ahead.Ready() == spareSockets {
			return
		}
	}
	t.Fatal("no spares")
}

// Engines close sockets that had no request for some minutes.
func TestASpareThatTheEngineClosesIsReplacedAndNothingElseHappens(t *testing.T) {
	closing := make(chan struct{})
	var dials atomic.Int64
	endpoint := play(t, func(conn net.Conn) {
		if dials.Add(1) == 1 {
			speaks(nil)(conn)
			return
		}
		<-closing
	})
	conn := mustDial(t, Options{}, endpoint)
	awaitSpares(t, conn)
	close(closing) // from now on the engine closes every new socket at once
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); conn.sockets.ahead.Ready() > 1 && time.Now().Before(deadline); {
		<-ticker.C
	}
	for range 20 {
		if err := conn.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := dials.Load(); got > 30 {
		t.Errorf("%d dials", got)
	}
}

// The transport may be an SSH connection, which knows sockets by their path only.
func TestAnEngineBehindSSHServesLikeALocalOne(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	server, err := openssh.Start(t.Context(), openssh.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	jumpHost := dialJumpHost(t, server)
	endpoint := unixEndpoint(engine)
	endpoint.Dial = jumpHost.(driver.Forwarder).Forward
	conn := mustDial(t, Options{}, endpoint)
	input := strings.Repeat("0123456789", 500_000)
	var stdout bytes.Buffer
	status, err := conn.Exec(t.Context(), driver.Command{Place: place, Shell: "cat; exit 3"},
		driver.Streams{Stdin: strings.NewReader(input), Stdout: &stdout})
	if err != nil || status.Code != 3 || stdout.String() != input {
		t.Errorf("status %+v, error %v, %d bytes of %d", status, err, stdout.Len(), len(input))
	}
	client := stock{t, serveProxy(t, conn)}
	if out := client.run("typed", "exec", "--interactive", place.Container, "cat"); out != "typed" {
		t.Errorf("output %q", out)
	}
	server.KillConnections()
	wantDeath(t, conn, driver.Unreachable, driver.StageRun)
}

func dialJumpHost(t *testing.T, server *openssh.Server) driver.Conn {
	t.Helper()
	prepared, err := ssh.New(ssh.Options{}).Prepare(driver.Endpoint{
		Address: server.Addr, User: server.User, KnownHosts: []byte(server.KnownHosts),
		Credentials: map[string][]byte{"ssh-privatekey": server.PrivateKey}, Dial: new(net.Dialer).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	jumpHost, err := prepared.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = jumpHost.Close() })
	return jumpHost
}
