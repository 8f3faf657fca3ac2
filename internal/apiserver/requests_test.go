package apiserver

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/connpool/connpool/internal/registry/quota"
)

func TestLongListsOfUsesCountWithWhatTheyAnswer(t *testing.T) {
	for query, want := range map[string]int{"": 4, "?limit=0": 4, "?limit=junk": 4, "?limit=999999": 4, "?limit=500": 9, "?limit=40": 96} {
		running, answered := 0, 0
		var api http.Handler
		again := func(w http.ResponseWriter) {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/apis/live.connpool.dev/v1alpha1/namespaces/a/uses"+query, http.NoBody)
			ctx := request.WithUser(req.Context(), &user.DefaultInfo{Name: "alice"})
			ctx = request.WithRequestInfo(ctx, &request.RequestInfo{
				IsResourceRequest: true, Verb: "list", Resource: "uses", Namespace: "a",
			})
			api.ServeHTTP(w, req.WithContext(ctx))
		}
		api = shared(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			running++
			refused := httptest.NewRecorder()
			if again(refused); refused.Code == http.StatusTooManyRequests {
				answered = running
			}
		}), quota.New(quota.Bounds{All: 9 << 20}))
		again(httptest.NewRecorder())
		if answered != want {
			t.Errorf("%q: %d run at the same time, want %d", query, answered, want)
		}
	}
}
