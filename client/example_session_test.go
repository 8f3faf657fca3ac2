package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// fakeSessions has one session, whose shell is in /tmp, and a Docker engine.
func fakeSessions() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := live.Session{
			ObjectMeta: metav1.ObjectMeta{Name: "deploy-x7k2"},
			Spec:       live.SessionSpec{Pool: "web"},
			Status:     live.SessionStatus{State: live.SessionReady, CommandCount: 2},
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/proxy/ci/version"):
			_, _ = io.WriteString(w, `{"ApiVersion":"1.41"}`)
		case strings.HasSuffix(r.URL.Path, "/sessions") && r.Method == http.MethodGet:
			_ = json.NewEncoder(w).Encode(live.SessionList{Items: []live.Session{session}})
		case !strings.HasSuffix(r.URL.Path, "/exec"):
			_ = json.NewEncoder(w).Encode(session)
		case r.Method == http.MethodPost:
			exec := live.Exec{Status: live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(0)), Stdout: "/tmp\n"}}
			_ = json.NewEncoder(w).Encode(exec)
		default:
			stream.ServeExec(w, r, stream.ExecOptions{Stdout: true, Stderr: true}, sayBuilt)
		}
	}))
}

func sayBuilt(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
	_, _ = io.WriteString(streams.Stdout, "built\n")
	return &metav1.Status{Status: metav1.StatusSuccess}
}

// A command in a session finds what the commands before it changed.
func ExampleClient_NewSession() {
	server := fakeSessions()
	defer server.Close()

	ctx := context.Background()
	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	session, err := c.NewSession(ctx, "shop", "web", client.SessionOptions{Target: "web-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = session.Delete(ctx) }()

	_, err = session.Exec(ctx, client.Command{Argv: []string{"cd", "/tmp"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := session.Exec(ctx, client.Command{Argv: []string{"pwd"}})
	fmt.Printf("%s in %s: %s(error %v)\n", "pwd", session.Name(), result.Stdout, err)
	// Output:
	// pwd in deploy-x7k2: /tmp
	// (error <nil>)
}

// The output arrives while the command runs.
func ExampleSession_Stream() {
	server := fakeSessions()
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Session("shop", "deploy-x7k2").Stream(context.Background(),
		client.Command{Shell: "make && echo built"}, client.Streams{Stdout: os.Stdout, Stderr: os.Stderr})
	fmt.Println(err)
	// Output:
	// built
	// <nil>
}

func ExampleClient_Sessions() {
	server := fakeSessions()
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := c.Sessions(context.Background(), "shop")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, session := range list.Items {
		fmt.Println(session.Name, session.Spec.Pool, session.Status.State, session.Status.CommandCount)
	}
	// Output: deploy-x7k2 web Ready 2
}

// Any HTTP client can use a target's API: that of Docker, or client-go's with
// rest.Config.WrapTransport.
func ExamplePool_Proxy() {
	server := fakeSessions()
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	docker := http.Client{Transport: c.Pool("shop", "web").Proxy("ci")}
	response, err := docker.Get("http://docker/version")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(string(body), err)
	// Output: {"ApiVersion":"1.41"} <nil>
}
