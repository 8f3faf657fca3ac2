package session

import (
	"bytes"
	"context"
	"errors"
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
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// served runs a test against pool web behind a real server.
func served(t *testing.T, test func(*fixture, *httptest.Server)) {
	t.Helper()
	f := newFixture(t)
	f.Web()
	server := httptest.NewServer(f)
	defer func() {
		server.Close()
		if err := f.wait(context.Background()); err != nil {
			t.Error(err)
		}
		f.Close()
	}()
	test(f, server)
}

func TestStockClientsStreamCommandsInSessions(t *testing.T) {
	for name, executor := range registrytest.Executors {
		t.Run(name, func(t *testing.T) {
			served(t, func(f *fixture, server *httptest.Server) {
				f.Fake.OnExec(playShell)
				session := f.create().Name
				stream := func(command string) (stdout, stderr string, err error) {
					e, err := executor(&rest.Config{Host: server.URL},
						registrytest.URLOf(server, "/sessions/"+session+"/exec?shell="+command+"&stdout=true&stderr=true"))
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
				if got := f.session(session).Status; got.CommandCount != 4 || got.State != live.SessionEnded {
					t.Errorf("the session is %+v", got)
				}
			})
		})
	}
}

// A write to a client that does not read waits. Its session ends all the same.
func TestAClientThatDoesNotReadCannotOutliveItsSession(t *testing.T) {
	for name, end := range map[string]func(*fixture, string){
		"whose permission is revoked": func(f *fixture, _ string) { f.Authorizer.Decide(authorizer.DecisionNoOpinion, nil) },
		"which is deleted":            func(f *fixture, name string) { _ = f.drop(name) },
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Fake.OnExec(playShell)
				f.Web()
				session := f.create().Name
				listener, stop := registrytest.Serve(f)
				defer stop()
				dialer := websocket.Dialer{NetDialContext: listener.Dial, Subprotocols: []string{"v5.channel.k8s.io"}}
				client, response, err := dialer.DialContext(t.Context(), "ws://pools/sessions/"+session+"/exec?shell=yes&stdout=1", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close() //nolint:errcheck // the end of the test
				defer response.Body.Close()
				synctest.Wait() // the first word of the command waits to be read
				end(f, session)
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
