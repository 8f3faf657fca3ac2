package apiserver

import (
	"context"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/driver"
)

// auditingAuthorizer writes an audit line, like the registry's, for each use that is
// refused before the request reaches the registry. kube-apiserver's audit log has no
// line for a request that was sent to this server directly.
type auditingAuthorizer struct {
	authorizer.Authorizer

	audit logr.Logger
}

// Authorize implements authorizer.Authorizer.
func (a auditingAuthorizer) Authorize(ctx context.Context, request authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := a.Authorizer.Authorize(ctx, request)
	if decision != authorizer.DecisionAllow && isUsed(request.GetSubresource()) {
		a.audit.Info("use refused",
			"user", driver.Sanitize(request.GetUser().GetName()), "namespace", driver.Sanitize(request.GetNamespace()),
			"pool", driver.Sanitize(request.GetName()), "subresource", request.GetSubresource(),
			"requestID", audit.GetAuditIDTruncated(ctx), "code", http.StatusForbidden, "reason", "Forbidden")
	}
	return decision, reason, err
}
