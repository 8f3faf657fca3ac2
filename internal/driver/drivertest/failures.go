package drivertest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/connpool/connpool/internal/driver"
)

// failuresToDial hands the same error to several dials, as the pool of a jump host
// does that remembers why it cannot be reached.
func (s suite) failuresToDial(t *testing.T) {
	shared := &driver.Error{Reason: driver.JumpTargetNotReady, Stage: driver.StageConnect, Message: "the jump host is gone"}
	endpoint := s.Endpoint
	endpoint.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, shared }
	var told []error
	for range 2 {
		conn, err := s.dialTo(t.Context(), endpoint)
		if err == nil {
			_ = conn.Close()
		}
		told = append(told, err)
	}
	for _, err := range told {
		if got := driver.AsError(err); got.Reason != shared.Reason || got.Message != shared.Message {
			t.Errorf("error %v, want that of the transport: %v", err, shared)
		}
	}
	wantOwn(t, shared, told)
}

// probeUntilTheEnd has several callers wait for the same answer when the connection
// ends. What they were told then is returned by the function.
func probeUntilTheEnd(t *testing.T, conn driver.Conn) (told func() []error) {
	t.Helper()
	errs := make([]error, 8)
	var probing sync.WaitGroup
	for i := range errs {
		probing.Go(func() {
			for errs[i] == nil {
				errs[i] = conn.Probe(t.Context())
			}
		})
	}
	return func() []error {
		probing.Wait()
		return errs
	}
}

// useAll calls everything that a dead connection has.
func (s suite) useAll(t *testing.T, conn driver.Conn) []error {
	t.Helper()
	told := []error{conn.Probe(t.Context())}
	if _, ok := conn.(driver.Execer); ok {
		_, err := s.try(t.Context(), conn, driver.Command{Argv: []string{"true"}}, nil)
		wantOutcome(t, err, driver.NotStarted)
		told = append(told, err)
	}
	if forwarder, ok := conn.(driver.Forwarder); ok {
		_, err := forwarder.Forward(t.Context(), "tcp", "127.0.0.1:1")
		told = append(told, err)
	}
	if forwarder, ok := conn.(driver.PodForwarder); ok {
		_, err := forwarder.ForwardPod(t.Context(), s.Place, 1)
		told = append(told, err)
	}
	if listener, ok := conn.(driver.Listener); ok {
		_, err := listener.Listen(t.Context(), "tcp", "127.0.0.1:0")
		told = append(told, err)
	}
	if proxier, ok := conn.(driver.Proxier); ok {
		told = append(told, proxyError(t, proxier))
	}
	return told
}

func proxyError(t *testing.T, proxier driver.Proxier) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/version", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := proxier.Proxy(request)
	if err == nil {
		_ = response.Body.Close()
	}
	return err
}

// wantOwn changes each error, and looks whether another one or their cause has
// changed with it.
func wantOwn(t *testing.T, cause error, told []error) {
	t.Helper()
	whole := cause.Error()
	for i, err := range told {
		classified, ok := err.(*driver.Error) //nolint:errorlint // only the error itself may be changed
		switch {
		case !ok:
			t.Fatalf("error %d is %v (%T), want a *driver.Error itself", i, err, err)
		case classified.Message == "changed":
			t.Errorf("error %d is that of another caller", i)
		}
		classified.Message = "changed"
	}
	if cause.Error() != whole {
		t.Error("the cause of the end changed with the error of a caller")
	}
}
