package apiserver

import (
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server"

	"github.com/connpool/connpool/internal/registry/proxy"
)

// buildChain returns the generic server's chain of handlers, behind one for proxied
// requests. Those belong to another API, and the generic server must not read them
// as requests of its own.
func buildChain(api http.Handler, config *server.Config) http.Handler {
	return isolateProxied(server.DefaultBuildHandlerChain(api, config), config.RequestInfoResolver)
}

// isolateProxied hides the query of a proxied request from the generic server, which
// would refuse dryRun, and would log the query. It also refuses impersonation: the
// generic server would apply the headers to itself and drop them, and the request
// would run at the target as another user than the client means. For requests that
// come through kube-apiserver that happens there.
func isolateProxied(next http.Handler, resolver request.RequestInfoResolver) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, err := resolver.NewRequestInfo(req)
		switch {
		case err != nil || !isUse(info) || info.Subresource != "proxy":
			next.ServeHTTP(w, req)
		case len(proxy.Impersonations(req.Header)) > 0:
			refuseImpersonation(w)
		default:
			next.ServeHTTP(w, proxy.HideQuery(req))
		}
	})
}

func refuseImpersonation(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(metav1.Status{ //nolint:errchkjson // A Status always has a JSON form.
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest,
		Message: "a proxied request runs with the credentials of the target, as nobody else; leave the Impersonate- headers out",
	})
}
