package apiserver

import (
	"context"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/driver"
)

// denials writes an audit line, like the registry's, for each use that is refused
// before the registry hears of it. For a request past kube-apiserver nobody else
// would.
type denials struct {
	authorizer.Authorizer

	audit logr.Logger
}

// Authorize implements authorizer.Authorizer.
func (d denials) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := d.Authorizer.Authorize(ctx, a)
	if decision != authorizer.DecisionAllow && isUsed(a.GetSubresource()) {
		d.audit.Info("use refused",
			"user", driver.Sanitize(a.GetUser().GetName()), "namespace", driver.Sanitize(a.GetNamespace()),
			"pool", driver.Sanitize(a.GetName()), "subresource", a.GetSubresource(),
			"requestID", audit.GetAuditIDTruncated(ctx), "code", http.StatusForbidden, "reason", "Forbidden")
	}
	return decision, reason, err
}
