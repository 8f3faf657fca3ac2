package registry

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"
	clientcommand "k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

func TestStockClientsStreamCommandsInSessions(t *testing.T) {
	for name, executor := range executors {
		t.Run(name, func(t *testing.T) {
			served(t, func(w *world, server *httptest.Server) {
				w.fake.OnExec(shells)
				session := w.create().Name
				stream := func(command string) (stdout, stderr string, err error) {
					e, err := executor(&rest.Config{Host: server.URL},
						urlOf(server, "/sessions/"+session+"/exec?shell="+command+"&stdout=true&stderr=true"))
					if err != nil {
						t.Fatal(err)
					}
					var out, outErr bytes.Buffer
					err = e.StreamWithContext(t.Context(), clientcommand.StreamOptions{Stdout: &out, Stderr: &outErr})
					return out.String(), outErr.String(), err
				}
				if _, _, err := stream("cd+/srv"); err != nil {
					t.Error(err)
				}
				if out, _, err := stream("pwd"); err != nil || out != "/srv\n" {
					t.Errorf("%q, %v", out, err)
				}
				if _, outErr, err := stream("echo+loud"); err != nil || outErr != "loud\n" {
					t.Errorf("%q, %v", outErr, err)
				}
				exit := utilexec.CodeExitError{}
				if _, _, err := stream("exit+7"); !errors.As(err, &exit) || exit.Code != 7 {
					t.Errorf("it ended with %v", err)
				}
				if _, _, err := stream("pwd"); err == nil || !strings.Contains(err.Error(), "exited with code 7") {
					t.Errorf("it ended with %v", err)
				}
				if got := w.session(session).Status; got.CommandCount != 4 || got.State != live.SessionEnded {
					t.Errorf("the session is %+v", got)
				}
			})
		})
	}
}

// A client that does not read keeps whoever writes waiting, but not its session.
func TestAClientThatDoesNotReadCannotOutliveItsSession(t *testing.T) {
	for name, end := range map[string]func(*world, string){
		"whose permission is revoked": func(w *world, _ string) { w.judge.decide(authorizer.DecisionNoOpinion, nil) },
		"which is deleted":            func(w *world, name string) { _ = w.drop(name) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.fake.OnExec(shells)
				w.web()
				session := w.create().Name
				listener := pipes{make(chan net.Conn), make(chan struct{})}
				server := &http.Server{Handler: w}
				go func() { _ = server.Serve(listener) }()
				defer server.Close() //nolint:errcheck // the end of the test
				dialer := websocket.Dialer{NetDialContext: listener.dial, Subprotocols: []string{"v5.channel.k8s.io"}}
				client, response, err := dialer.DialContext(t.Context(), "ws://pools/sessions/"+session+"/exec?shell=yes&stdout=1", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close() //nolint:errcheck // the end of the test
				defer response.Body.Close()
				synctest.Wait() // the first word of the command waits to be read
				end(w, session)
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
