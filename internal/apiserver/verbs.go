package apiserver

import (
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server"
)

// uses are the subresources that use a connection. They run as long as they
// need, and need the verb create whatever the HTTP method.
var uses = []string{"exec", "portforward", "proxy"}

// verbResolver calls every use of a connection create: a WebSocket arrives as
// GET, and who may only read must not run anything.
type verbResolver struct{ request.RequestInfoResolver }

func newVerbResolver() verbResolver {
	return verbResolver{server.NewRequestInfoResolver(&server.Config{
		LegacyAPIGroupPrefixes: sets.NewString(server.DefaultLegacyAPIPrefix),
	})}
}

// NewRequestInfo implements request.RequestInfoResolver.
func (r verbResolver) NewRequestInfo(req *http.Request) (*request.RequestInfo, error) {
	info, err := r.RequestInfoResolver.NewRequestInfo(req)
	if err == nil && isUse(info) {
		info.Verb = "create"
	}
	return info, err
}

func isUse(info *request.RequestInfo) bool {
	return info != nil && info.IsResourceRequest && isUsed(info.Subresource)
}

func isUsed(subresource string) bool { return slices.Contains(uses, subresource) }

// isLongRunning exempts what uses a connection from the deadline of requests.
func isLongRunning(_ *http.Request, info *request.RequestInfo) bool { return isUse(info) }
