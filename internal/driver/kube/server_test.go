package kube

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

func TestServersThatAreNotWhatTheySeem(t *testing.T) {
	unknown := httptest.NewUnstartedServer(http.NotFoundHandler())
	unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
	unknown.StartTLS()
	t.Cleanup(unknown.Close)
	plainHTTP := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plainHTTP.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	config := &rest.Config{Host: "https://localhost", BearerToken: "token"}
	config.CAData = pemOf(unknown.Certificate())
	wrongName := endpointOf(t, config)
	config.Host = "https://127.0.0.1"
	known := endpointOf(t, config)
	tests := map[string]struct {
		endpoint driver.Endpoint
		reason   driver.Reason
		stage    driver.Stage
	}{
		"of an unknown authority":    {to(admin(t), unknown.Listener.Addr().String()), driver.CertificateInvalid, driver.StageTLS},
		"of another name":            {to(wrongName, unknown.Listener.Addr().String()), driver.CertificateInvalid, driver.StageTLS},
		"that speak no TLS":          {to(admin(t), plainHTTP.Listener.Addr().String()), driver.ProtocolError, driver.StageTLS},
		"that say nothing":           {to(admin(t), silent.Addr().String()), driver.Timeout, driver.StageTLS},
		"that are no API":            {to(known, unknown.Listener.Addr().String()), driver.ProtocolError, driver.StageAuthentication},
		"that do not listen":         {to(admin(t), "127.0.0.1:1"), driver.Unreachable, driver.StageConnect},
		"whose name does not exist":  {to(admin(t), "nowhere.invalid:443"), driver.DNSError, driver.StageResolve},
		"that the operator may not ": {denied(admin(t)), driver.AddressDenied, driver.StageConnect},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := dialWith(t.Context(), Options{StageTimeout: time.Second}, test.endpoint)
			if got := wantError(t, err, test.reason, test.stage); got.Started {
				t.Error("something may have started")
			}
		})
	}
}

func denied(endpoint driver.Endpoint) driver.Endpoint {
	endpoint.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &driver.Error{Reason: driver.AddressDenied, Stage: driver.StageConnect, Message: "denied"}
	}
	return endpoint
}

func TestEachCallerGetsItsOwnCopyOfTheEndOfAConnection(t *testing.T) {
	cause := &driver.Error{Reason: driver.Timeout, Stage: driver.StageKeepalive, Message: "gone"}
	for _, classify := range []func() *driver.Error{
		func() *driver.Error { return transportError(cause, driver.StageStart, "host") },
		func() *driver.Error { return dialerr.Connect(errors.Join(io.EOF, cause), "host", hints) },
	} {
		if got := classify(); got == cause || *got != *cause {
			t.Errorf("%+v, want a copy of %+v", got, cause)
		}
	}
}

// Either the keepalive of this driver or the PING of the library notices it first.
func TestAServerThatAnswersNoPingHasTimedOut(t *testing.T) {
	err := &url.Error{Op: "Get", URL: "https://host/readyz", Err: errors.New("http2: client connection lost")}
	wantError(t, transportError(err, driver.StageKeepalive, "host"), driver.Timeout, driver.StageKeepalive)
}
