package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// fakeAPI answers every command with the same result.
func fakeAPI(result live.ExecStatus) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(live.Exec{Status: result})
	}))
}

// fakeStreams has one target, whose only command is cat, and whose only service
// answers that all is well.
func fakeStreams() *httptest.Server {
	cat := func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		_, _ = io.Copy(streams.Stdout, streams.Stdin)
		return &metav1.Status{Status: metav1.StatusSuccess}
	}
	service := func(context.Context, uint16) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			if _, err := http.ReadRequest(bufio.NewReader(ours)); err == nil {
				_, _ = io.WriteString(ours, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}()
		return theirs, nil
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/exec") {
			stream.ServeExec(w, r, stream.ExecOptions{Stdin: true, Stdout: true, Stderr: true}, cat)
			return
		}
		stream.ServePortForward(w, r, service)
	}))
}

func Example() {
	server := fakeAPI(live.ExecStatus{
		Outcome: live.OutcomeCompleted, ExitCode: new(int32(0)), Stdout: "up 3 days\n", Target: "web-1", Acquired: live.AcquiredWarm,
	})
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL}) // or rest.InClusterConfig()
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := c.Pool("shop", "web").Exec(context.Background(), client.Command{Argv: []string{"uptime"}})
	fmt.Printf("%s: %s(%s connection, error %v)\n", result.Target, result.Stdout, result.Acquired, err)
	// Output:
	// web-1: up 3 days
	// (Warm connection, error <nil>)
}

// An error says whether the command may be tried again.
func ExamplePool_Exec() {
	server := fakeAPI(live.ExecStatus{Outcome: live.OutcomeCompleted, ExitCode: new(int32(3)), Stderr: "no such unit"})
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := c.Pool("shop", "web").Exec(context.Background(), client.Command{
		Target: "web-1",
		Argv:   []string{"systemctl", "restart", "nginx"},
	})
	var exit *client.ExitError
	switch {
	case err == nil:
		fmt.Println("restarted")
	case errors.As(err, &exit):
		fmt.Printf("failed with %d: %s\n", exit.ExitCode(), result.Stderr)
	case apierrors.IsForbidden(err):
		fmt.Println("ask for the verb create on connectionpools/exec")
	case errors.Is(err, client.ErrNotStarted):
		fmt.Println("did not run; try again:", err)
	default:
		fmt.Println("may have run; look before trying again:", err)
	}
	// Output: failed with 3: no such unit
}

// A stream has no bounds, and arrives while the command runs.
func ExamplePool_Stream() {
	server := fakeStreams()
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := c.Pool("shop", "web").Stream(context.Background(),
		client.Command{Target: "web-1", Shell: "cat > /tmp/x; cat /tmp/x", Stdin: strings.NewReader("as much as you like\n")},
		client.Streams{Stdout: os.Stdout, Stderr: os.Stderr})
	fmt.Println(result.ExitCode, err)
	// Output:
	// as much as you like
	// 0 <nil>
}

// Forwarder.Dial can be wrapped into the dial function of another library.
func ExamplePool_Forward() {
	server := fakeStreams()
	defer server.Close()

	c, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	forwarder, err := c.Pool("shop", "web").Forward(context.Background(), "web-1", "/var/run/docker.sock")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer forwarder.Close()

	docker := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return forwarder.Dial(ctx) },
	}}
	defer docker.CloseIdleConnections()
	response, err := docker.Get("http://docker/version")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	// Output: 200 OK
}
