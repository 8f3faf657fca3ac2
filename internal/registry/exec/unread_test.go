package exec

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// endless plays a command that writes until it cannot.
func endless(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	for {
		if _, err := streams.Stdout.Write([]byte("y\n")); err != nil {
			return driver.ExitStatus{}, &driver.Error{Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: err.Error()}
		}
	}
}

// What the command has written waits in memory, and its connection holds more of it.
func TestAClientThatDoesNotReadIsCutWhenMemoryIsShort(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(endless)
		listener, stop := registrytest.Serve(f)
		defer stop()
		dialer := websocket.Dialer{NetDialContext: listener.Dial, Subprotocols: []string{"v5.channel.k8s.io"}}
		client, response, err := dialer.DialContext(t.Context(), "ws://pools/pools/web/exec?command=yes&stdout=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close() //nolint:errcheck // the end of the test
		defer response.Body.Close()
		if _, _, err := client.ReadMessage(); err != nil { // the empty one that greets
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		if cut := f.Gate.Deliveries.Relieve(1); cut != 1 {
			t.Fatalf("%d are cut", cut)
		}
		<-f.Gate.Idle()
		if after := time.Since(began); after != 0 {
			t.Errorf("it was held for %v more", after)
		}
		if audit := f.Audit(); !strings.Contains(audit, use.ReasonUnread) {
			t.Errorf("audit says %s", audit)
		}
		if cut := f.Gate.Deliveries.Relieve(1); cut != 0 {
			t.Errorf("%d more are cut", cut)
		}
	})
}

// A write to a client that does not read waits. The stream must end all the same,
// because its shell may still take input.
func TestAClientThatDoesNotReadCannotOutliveItsPermission(t *testing.T) {
	for name, end := range map[string]func(*fixture){
		"which is revoked": func(f *fixture) { f.Authorizer.Decide(authorizer.DecisionNoOpinion, nil) },
		"nor the operator": func(f *fixture) { f.Gate.Cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Fake.OnExec(endless)
				listener, stop := registrytest.Serve(f)
				defer stop()
				dialer := websocket.Dialer{NetDialContext: listener.Dial, Subprotocols: []string{"v5.channel.k8s.io"}}
				client, response, err := dialer.DialContext(t.Context(), "ws://pools/pools/web/exec?command=yes&stdout=1", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close() //nolint:errcheck // the end of the test
				defer response.Body.Close()
				synctest.Wait() // the first word of the command waits to be read
				end(f)
				ended := time.Now()
				ctx, cancel := context.WithTimeout(f.Context(), time.Hour)
				defer cancel()
				select {
				case <-f.Gate.Idle():
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
