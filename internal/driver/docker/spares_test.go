package docker

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/connpool/connpool/test/dockerd"
)

// A command that starts when spares are ready makes no handshake before its start.
func TestACommandOnAWarmConnectionDialsNothingFirst(t *testing.T) {
	engine := dockerd.Start(t)
	place := startContainer(t, engine)
	for name, endpointOf := range transports {
		conn := mustDial(t, Options{}, endpointOf(engine))
		mustRun(t, conn, place) // leaves a socket for requests
		awaitSpares(t, conn)
		conn.dialer.endpoint.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, net.ErrClosed // so that only what is ready can serve
		}
		if out, err := run(conn, place, "echo served"); out != "served\n" || err != nil {
			t.Errorf("%s: output %q, error %v", name, out, err)
		}
	}
}

func awaitSpares(t *testing.T, conn *conn) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		conn.sockets.mu.Lock()
		ready := len(conn.sockets.spares)
		conn.sockets.mu.Unlock()
		if ready == spareSockets {
			return
		}
	}
	t.Fatal("no spares")
}
