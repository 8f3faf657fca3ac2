package kube

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/internal/driver"
)

// refuseToken answers 401 to who shows the token of an endpoint.
func refuseToken(t *testing.T, endpoint driver.Endpoint) http.HandlerFunc {
	t.Helper()
	refused, err := readKubeconfig(endpoint.Credentials, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+refused.token {
			refuseAll(http.StatusUnauthorized, nil)(w, r)
		}
	}
}

// renewed returns the endpoint with another token of the same account.
func renewed(t *testing.T, g *gateway, account string) driver.Endpoint {
	t.Helper()
	user, err := cluster(t).plane.ServiceAccount(t.Context(), "default", account)
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: g.URL, BearerToken: user.BearerToken}
	config.CAData = pemOf(g.Certificate())
	return endpointOf(t, config)
}

// startCat starts a command that repeats its input, and returns when it has begun.
func startCat(t *testing.T, conn *conn) (say func(word string) (heard string), end func() error) {
	t.Helper()
	in, input := io.Pipe()
	output, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), driver.Command{Place: web, Argv: []string{"cat"}}, driver.Streams{Stdin: in, Stdout: out})
		_ = out.CloseWithError(io.ErrUnexpectedEOF)
		ended <- err
	}()
	say = func(word string) string {
		_, _ = io.WriteString(input, word)
		heard := make([]byte, len(word))
		_, _ = io.ReadFull(output, heard)
		return string(heard)
	}
	if say("begun") != "begun" {
		t.Fatalf("the command did not begin: %v", <-ended)
	}
	return say, func() error {
		_ = input.Close()
		return <-ended
	}
}

// kubectl's own streams go on when their token ends, since a stream is authenticated
// once.
func TestWhatRunsWithATokenThatWasReplacedInTimeGoesOn(t *testing.T) {
	g, endpoint := startGateway(t)
	kube := New(Options{})
	old := mustDialOf(t, kube, brief(endpoint)).(*conn)
	idle := mustDialOf(t, kube, brief(endpoint)).(*conn)
	say, end := startCat(t, old)
	fresh := mustDialOf(t, kube, brief(renewed(t, g, "gateway"))).(*conn)
	g.set(refuseToken(t, endpoint))
	wantDeath(t, idle, driver.AuthenticationFailed, driver.StageKeepalive)
	for range 3 { // more looks at the server, of which each meets the 401
		if err := old.Probe(t.Context()); err != nil {
			t.Errorf("probe: %v", err)
		}
	}
	if heard := say("still here"); heard != "still here" || old.Context().Err() != nil {
		t.Errorf("heard %q, connection %v", heard, context.Cause(old.Context()))
	}
	_, err := output(t, old, driver.Command{Place: web, Argv: []string{"true"}})
	wantError(t, err, driver.AuthenticationFailed, driver.StageStart)
	if _, err := output(t, fresh, driver.Command{Place: web, Argv: []string{"true"}}); err != nil {
		t.Errorf("the new token: %v", err)
	}
	if err := end(); err != nil {
		t.Errorf("the command: %v", err)
	}
	wantDeath(t, old, driver.AuthenticationFailed, driver.StageKeepalive)
}

func TestWhatRunsWithATokenThatWasNotReplacedEnds(t *testing.T) {
	g, endpoint := startGateway(t)
	kube := New(Options{})
	old := mustDialOf(t, kube, brief(endpoint)).(*conn)
	_, end := startCat(t, old)
	allowEverything(t, cluster(t).plane.Config, "other")
	mustDialOf(t, kube, brief(renewed(t, g, "other")))
	g.set(refuseToken(t, endpoint))
	wantDeath(t, old, driver.AuthenticationFailed, driver.StageKeepalive)
	if got := driver.AsError(end()); got.Reason != driver.AuthenticationFailed || !got.Started {
		t.Errorf("the command: %+v", got)
	}
}

// A burst of a target's own commands may be throttled, and its health must not turn.
func TestAThrottledProbeIsASignOfLife(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{}, brief(endpoint))
	g.set(refuseAll(http.StatusTooManyRequests, map[string]string{"Retry-After": "1"}))
	for range 5 {
		if err := conn.Probe(t.Context()); err != nil {
			t.Errorf("probe: %v", err)
		}
	}
	if conn.Context().Err() != nil {
		t.Errorf("the connection ended: %v", context.Cause(conn.Context()))
	}
}
