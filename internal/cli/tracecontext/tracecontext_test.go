package tracecontext

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRequestsBelongToTheTraceOfTheEnvironment(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for environment, want := range map[string]string{
		"":     "",
		parent: parent,
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "",
		parent + "\r\nX-Other: header":                            "",
		"anything":                                                "",
	} {
		t.Setenv("TRACEPARENT", environment)
		var got string
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Traceparent") }))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := wrap(http.DefaultTransport).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		server.Close()
		if got != want || request.Header.Get("Traceparent") != "" {
			t.Errorf("%q: the header is %q, want %q", environment, got, want)
		}
	}
}
