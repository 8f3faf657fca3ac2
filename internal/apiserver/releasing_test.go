package apiserver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
)

// reused sends two requests one after the other, and reports whether both went through
// one connection.
func reused(t *testing.T, server *httptest.Server) (again bool) {
	t.Helper()
	for range 2 {
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { again = info.Reused }}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	return again
}

func TestClientsDoNotStayWithAReplicaThatDoesNotLead(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			elected := make(chan struct{})
			refused := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Proto != protocol {
					t.Errorf("the client speaks %s", req.Proto)
				}
				http.Error(w, "try again", http.StatusServiceUnavailable)
			})
			server := httptest.NewUnstartedServer(releasing(elected, refused))
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()
			if reused(t, server) {
				t.Error("the client keeps its connection to a replica that does not lead")
			}
			close(elected)
			if !reused(t, server) {
				t.Error("the client loses its connection to the leader")
			}
		})
	}
}
