package watched

import (
	"net/http"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// Refuse returns a handler of the live API that refuses requests in namespaces that are not
// served, and writes an audit line for those that would change or use something.
//
// A list of sessions is empty there, and has a warning: the namespace controller reads it
// before it deletes a namespace. An error would keep it from that, or make it forget that
// sessions can be listed elsewhere.
func (n *Namespaces) Refuse(log logr.Logger, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, _ := request.RequestInfoFrom(req.Context())
		reason, message := "", ""
		if info != nil && info.IsResourceRequest {
			reason, message = n.Problem(info.Namespace)
		}
		switch {
		case reason == "":
			api.ServeHTTP(w, req)
		case info.Resource == "sessions" && info.Verb == "list":
			warning.AddWarning(req.Context(), "", message)
			api.ServeHTTP(w, req)
		default:
			refused := refusalOf(reason, message)
			if info.Verb != "get" && info.Verb != "list" {
				log.Info("use refused", append(audit.UserOf(req.Context()), "namespace", audit.Name(info.Namespace),
					"resource", info.Resource, "name", audit.Name(info.Name), "subresource", audit.Name(info.Subresource),
					"requestID", audit.Name(audit.RequestIDOf(req.Context())),
					"code", refused.Code, "reason", reason, "message", message)...)
			}
			responsewriters.WriteRawJSON(int(refused.Code), refused, w)
		}
	})
}

func refusalOf(reason, message string) metav1.Status {
	answer := refusal.Unavailable
	if reason == live.ReasonNamespaceNotWatched {
		answer = refusal.NotFound
	}
	status := refusal.NotStarted(answer, reason, message).Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return status
}
