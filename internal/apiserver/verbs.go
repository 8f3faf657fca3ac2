package apiserver

import (
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server"
)

// uses are the subresources that use a connection. They have no deadline, and need
// the verb create whatever the HTTP method.
var uses = []string{"exec", "portforward", "proxy"}

// verbResolver gives every use of a connection the verb create: a WebSocket arrives
// as GET, and a user who may only read must not run anything.
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

// isUse reports whether a request uses a connection.
func isUse(info *request.RequestInfo) bool {
	return info != nil && info.IsResourceRequest && isUsed(info.Subresource)
}

func isUsed(subresource string) bool { return slices.Contains(uses, subresource) }

// isLongRunning reports whether a request is exempt from the deadline of requests:
// each use of a connection is.
func isLongRunning(_ *http.Request, info *request.RequestInfo) bool { return isUse(info) }
