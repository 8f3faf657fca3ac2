package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server"

	"github.com/connpool/connpool/internal/apiserver/outage"
	"github.com/connpool/connpool/internal/registry/proxy"
	"github.com/connpool/connpool/internal/registry/quota"
)

// uses are the subresources that use a connection. They have no deadline, and need
// the verb create whatever the HTTP method.
var uses = []string{"exec", "portforward", "proxy"}

// verbResolver gives every use of a connection the verb create: a WebSocket arrives
// as GET, and a user who may only read must not run anything.
type verbResolver struct{ request.RequestInfoResolver }

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

// buildChain returns the generic server's chain of handlers, behind one for what the
// generic server must not see as it is.
//
// Proxied requests belong to another API: the generic server would refuse their dryRun,
// and would log their query. It would apply impersonation headers to itself and drop
// them, and the request would run at the target as another user than the client means.
// For requests that come through kube-apiserver that happens there.
//
// All other bodies must not be YAML, whose aliases let 60 KB decode to hundreds of
// megabytes, before anything else of the request is looked at.
func buildChain(api http.Handler, config *server.Config) http.Handler {
	next := outage.Answer(server.DefaultBuildHandlerChain(api, config))
	uses := func(req *http.Request) bool {
		info, err := config.RequestInfoResolver.NewRequestInfo(req)
		return err == nil && isUse(info)
	}
	return withDeadlines(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, err := config.RequestInfoResolver.NewRequestInfo(req)
		proxied := err == nil && isUse(info) && info.Subresource == "proxy"
		switch {
		case !proxied && isYAML(req):
			refuse(w, http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
				"this API reads no YAML; send the same object as JSON, with the Content-Type application/json")
		case !proxied:
			next.ServeHTTP(w, req)
		case len(proxy.Impersonations(req.Header)) > 0:
			refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest,
				"a proxied request runs with the credentials of the target and for no other user; leave the Impersonate- headers out")
		default:
			next.ServeHTTP(w, proxy.HideQuery(req))
		}
	}), uses)
}

// releasing tells clients to connect anew after each answer of a replica that does not
// lead. The Service leads to such a replica when its process was killed as the leader, and
// has started again. A client that kept the connection, as kube-apiserver does, would stay
// with it when another replica leads.
func releasing(elected <-chan struct{}, next http.Handler) http.Handler {
	if elected == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-elected:
		default:
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, req)
	})
}

const (
	// requestBytes is about what a request takes beside its body and a long answer.
	requestBytes = 16 << 10
	// useBytes is about what a use takes in a list of them, and mostUses how many are
	// counted of a list without a limit. A use can be as long as its command.
	useBytes = 2 << 10
	mostUses = 1000
)

// answerBytes is about what the answer to a request takes, if that is much.
func answerBytes(info *request.RequestInfo, req *http.Request) int64 {
	if info.Resource != "uses" || info.Verb != "list" {
		return 0
	}
	limit, err := strconv.ParseInt(req.URL.Query().Get("limit"), 10, 64)
	if err != nil || limit <= 0 || limit > mostUses {
		limit = mostUses
	}
	return limit * useBytes
}

// shared refuses requests, other than uses, of which the user's namespace has too many
// already. Uses have their own limits.
func shared(api http.Handler, held *quota.Quota) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, _ := request.RequestInfoFrom(req.Context())
		who, ok := request.UserFrom(req.Context())
		if !ok || info == nil || isUse(info) {
			api.ServeHTTP(w, req)
			return
		}
		length := req.ContentLength
		if length < 0 || length > maxBodyBytes {
			length = maxBodyBytes
		}
		owner, cost := quota.Owner{Namespace: info.Namespace, User: who.GetName()}, requestBytes+length+answerBytes(info, req)
		if full := held.Take(owner, cost); full != quota.Free {
			refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests,
				fmt.Sprintf("the operator serves too many other requests of %s; try again later", full))
			return
		}
		defer held.Add(owner, -cost)
		api.ServeHTTP(w, req)
	})
}

// polling is what to type for resources that cannot be watched.
var polling = map[string]string{
	"connections": "kubectl connpool connections --watch",
	"sessions":    "kubectl connpool session list --watch",
	"uses":        "kubectl connpool history --watch",
}

// withoutWatch refuses watches with the command that shows changes nevertheless.
func withoutWatch(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, _ := request.RequestInfoFrom(req.Context())
		if info == nil || info.Verb != "watch" || polling[info.Resource] == "" {
			api.ServeHTTP(w, req)
			return
		}
		refuse(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, fmt.Sprintf(
			"%s are not stored and cannot be watched; to see them as they are now, type: %s", info.Resource, polling[info.Resource]))
	})
}

// isYAML reports whether the body claims to be any kind of YAML, such as
// application/yaml or application/apply-patch+yaml.
func isYAML(req *http.Request) bool {
	return strings.Contains(strings.ToLower(strings.Join(req.Header.Values("Content-Type"), ",")), "yaml")
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ //nolint:errchkjson // A Status always has a JSON form.
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}
