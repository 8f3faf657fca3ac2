package registry

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// pipes is a listener in memory, so that streams can be served in virtual time.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.accepted <- far
	return near, nil
}

// endless plays a command that writes until it cannot.
func endless(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	for {
		if _, err := streams.Stdout.Write([]byte("y\n")); err != nil {
			return driver.ExitStatus{}, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: err.Error()}
		}
	}
}

// Whoever does not read keeps the one waiting who writes. That must not keep the
// stream, behind which a shell may still take input.
func TestAClientThatDoesNotReadCannotOutliveItsPermission(t *testing.T) {
	for name, end := range map[string]func(*world){
		"which is revoked": func(w *world) { w.judge.decide(authorizer.DecisionNoOpinion, nil) },
		"nor the operator": func(w *world) { w.registry.uses.cut() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				w.fake.OnExec(endless)
				listener := pipes{make(chan net.Conn), make(chan struct{})}
				server := &http.Server{Handler: w}
				go func() { _ = server.Serve(listener) }()
				defer server.Close() //nolint:errcheck // the end of the test
				dialer := websocket.Dialer{NetDialContext: listener.dial, Subprotocols: []string{"v5.channel.k8s.io"}}
				client, response, err := dialer.DialContext(t.Context(), "ws://pools/pools/web/exec?command=yes&stdout=1", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close() //nolint:errcheck // the end of the test
				defer response.Body.Close()
				synctest.Wait() // the first word of the command waits to be read
				end(w)
				ended := time.Now()
				ctx, cancel := context.WithTimeout(w.Context(), time.Hour)
				defer cancel()
				select {
				case <-w.registry.uses.idle():
				case <-ctx.Done():
					t.Error("it never ended")
				}
				if after := time.Since(ended); after > 45*time.Second {
					t.Errorf("it ended after %v", after)
				}
			})
		})
	}
}
