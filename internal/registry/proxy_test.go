package registry

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestWhatTheProxyRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		path  string
		code  int
		words string
	}{
		"an ssh target":            {"/web-1/version", 400, "type ssh, which has no HTTP API"},
		"a docker target":          {"/build-1/v1.41/containers/json", 501, "docker"},
		"a target alone":           {"/build-1", 501, "docker"},
		"no target":                {"", 400, "name a target"},
		"no target but a slash":    {"/", 400, "name a target"},
		"an unknown target":        {"/other/version", 404, "other"},
		"a target of another pool": {"/db-1/version", 400, "not of pool web"},
		"two dots":                 {"/build-1/../../x", 400, ".."},
		"two dots at the end":      {"/build-1/..", 400, ".."},
		"one dot":                  {"/./build-1", 400, ".."},
		"encoded dots":             {"/build-1/%2e%2E/x", 400, ".."},
		"an encoded slash":         {"/build-1%2Fversion", 400, "encoded"},
		"an encoded backslash":     {"/build-1/%5cx", 400, "encoded"},
		"encoded twice":            {"/build-1/%252e%252e/x", 400, "encoded"},
		"an absolute URI":          {"/http://example.com/", 400, "absolute URI"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				w.target("build-1", "web", docker)
				w.target("db-1", "db", docker)
				req := httptest.NewRequestWithContext(w.Context(), http.MethodDelete, "/pools/web/proxy"+test.path, http.NoBody)
				w.send(req).wantRefusal(w, test.code, test.words)
			})
		})
	}
}
