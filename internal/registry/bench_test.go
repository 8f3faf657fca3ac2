package registry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// BenchmarkExec measures what the JSON form costs on top of the pools, without the
// server in front of it.
func BenchmarkExec(b *testing.B) {
	f := newFixture(b, func(c *use.Config) { c.Audit = logr.Discard() })
	defer f.Close()
	f.Connect(f.Target("web-1", "web"), f.Pool("web"))
	f.Fake.OnExec(registrytest.Saying("Mon Nov 23 04:18:59 UTC 2026\n", "", 0))
	argv := []string{"date", "--utc"}

	b.Run("pools", func(b *testing.B) {
		request := poolset.Request{Pool: "pool-web", Target: "target-web-1"}
		for b.Loop() {
			var out strings.Builder
			lease, err := f.Set.Acquire(context.Background(), request)
			if err != nil {
				b.Fatal(err)
			}
			_, err = f.Set.ExecOn(context.Background(), lease, request, driver.Command{Argv: argv}, driver.Streams{Stdout: &out})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("JSON", func(b *testing.B) {
		const body = `{"apiVersion":"live.connpool.dev/v1alpha1","kind":"Exec","spec":{"target":"web-1","command":["date","--utc"]}}`
		for b.Loop() {
			recorder := httptest.NewRecorder()
			f.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/pools/web/exec", strings.NewReader(body)))
			if recorder.Code != http.StatusOK {
				b.Fatal(recorder.Body)
			}
		}
	})
	b.Run("list of 1 connection", func(b *testing.B) {
		connections := f.connections()
		for b.Loop() {
			if _, err := connections.List(context.Background(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proxied GET", func(b *testing.B) {
		answer := []byte(`[{"Id":"0123456789abcdef","Names":["/web"],"State":"running"}]`)
		f.Engine(registrytest.InMemory(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
		for b.Loop() {
			recorder := httptest.NewRecorder()
			f.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, registrytest.ProxyPath+"/v1.41/containers/json", http.NoBody))
			if recorder.Code != http.StatusOK {
				b.Fatal(recorder.Body)
			}
		}
	})
}
