package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// api plays the HTTP API of a target.
type api func(*http.Request) (*http.Response, error)

func (a api) RoundTrip(request *http.Request) (*http.Response, error) { return a(request) }

// slowly is a body that takes its time.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(3 * time.Second)
	return s.Reader.Read(p)
}

func TestAProxiedRequestIsMeasuredUntilItsHeadersAndFailsOnlyWithoutThem(t *testing.T) {
	answer := func(status int, after time.Duration) api {
		return func(request *http.Request) (*http.Response, error) {
			select {
			case <-time.After(after):
			case <-request.Context().Done():
				return nil, request.Context().Err()
			}
			body := io.NopCloser(slowly{strings.NewReader("body")})
			return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: body}, nil
		}
	}
	for name, test := range map[string]struct {
		api             api
		times, failures []string
	}{
		"an answer": {answer(http.StatusOK, 2*time.Second), []string{"team/web docker: answered after 2s"}, nil},
		"an error of the target": {
			answer(http.StatusInternalServerError, time.Second), []string{"team/web docker: answered after 1s"}, nil,
		},
		"a client that leaves while it reads": {
			answer(http.StatusOK, 58*time.Second), []string{"team/web docker: answered after 58s"}, nil,
		},
		"a client that leaves before": {answer(http.StatusOK, time.Hour), nil, []string{"team/web docker: ClientGone, Unknown"}},
		"no answer": {
			func(*http.Request) (*http.Response, error) {
				return nil, &driver.Error{Reason: driver.Unreachable, Started: true, Message: "reset"}
			}, nil, []string{"team/web docker: Unreachable, Unknown"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var figures registrytest.Figures
			inFixture(t, func(f *fixture) {
				f.Engine(test.api)
				ctx, cancel := context.WithTimeoutCause(f.Context(), time.Minute, context.Canceled)
				defer cancel()
				request := httptest.NewRequest(http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody).WithContext(ctx)
				func() {
					defer func() { _ = recover() }() // of an answer that is cut
					f.ServeHTTP(httptest.NewRecorder(), request)
				}()
				if diff := cmp.Diff(test.times, figures.Taken()); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(test.failures, figures.Failures()); diff != "" {
					t.Error(diff)
				}
			}, figures.Meter)
		})
	}
}
