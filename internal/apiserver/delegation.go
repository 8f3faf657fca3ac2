package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/apiserver/outage"
	"github.com/connpool/connpool/internal/apiserver/trust"
	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/driver"
)

const (
	// reviewCacheTTL is how long an answer of kube-apiserver about a token or a
	// permission is cached.
	reviewCacheTTL = 10 * time.Second
	// reviewTimeout bounds one token review.
	reviewTimeout = 10 * time.Second
)

// openPaths are open to anonymous clients: health, for probes.
var openPaths = []string{"/healthz", "/livez", "/readyz"}

// delegate makes the server ask kube-apiserver who a client is and what it may do,
// and returns the authorizer that asks. The generic server's own options do the same,
// but they let every client in as system:anonymous, and read their configuration
// from kubeconfig files only.
func delegate(ctx context.Context, client kubernetes.Interface, config *server.Config, log logr.Logger) (authorizer.Authorizer, error) {
	clientCA, proxy, err := trust.Read(ctx, client)
	if err != nil {
		return nil, err
	}
	config.Authentication.RequestHeaderConfig = proxy
	known := newAccounts(client.CoreV1())
	direct, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		Anonymous:                          &apiserver.AnonymousAuthConfig{Enabled: true, Conditions: openConditions()},
		TokenAccessReviewClient:            client.AuthenticationV1(),
		TokenAccessReviewTimeout:           reviewTimeout,
		WebhookRetryBackoff:                options.DefaultAuthWebhookRetryBackoff(),
		CacheTTL:                           reviewCacheTTL,
		ClientCertificateCAContentProvider: clientCA,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("delegate authentication: %w", err)
	}
	config.Authentication.Authenticator = &identifier{front: frontProxy(proxy), direct: direct, accounts: known}
	reviews, err := newAuthorizer(client)
	if err != nil {
		return nil, fmt.Errorf("delegate authorization: %w", err)
	}
	reviews = existenceAuthorizer{reviews, known}
	config.Authorization.Authorizer = auditingAuthorizer{reviews, log}
	if err := errors.Join(
		config.Authentication.ApplyClientCert(clientCA, config.SecureServing),
		config.Authentication.ApplyClientCert(proxy.CAContentProvider, config.SecureServing),
	); err != nil {
		return nil, fmt.Errorf("trust the clients' authorities: %w", err)
	}
	return reviews, nil
}

// frontProxy authenticates requests that kube-apiserver passes on.
func frontProxy(proxy *authenticatorfactory.RequestHeaderConfig) authenticator.Request {
	return group.NewAuthenticatedGroupAdder(headerrequest.NewDynamicVerifyOptionsSecure(
		proxy.CAContentProvider.VerifyOptions, proxy.AllowedClientNames,
		proxy.UsernameHeaders, proxy.UIDHeaders, proxy.GroupHeaders, proxy.ExtraHeaderPrefixes,
	))
}

func openConditions() []apiserver.AnonymousAuthCondition {
	conditions := make([]apiserver.AnonymousAuthCondition, len(openPaths))
	for i, path := range openPaths {
		conditions[i].Path = path
	}
	return conditions
}

func newAuthorizer(client kubernetes.Interface) (authorizer.Authorizer, error) {
	open, err := path.NewAuthorizer(openPaths)
	if err != nil {
		return nil, err
	}
	reviews, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: client.AuthorizationV1(),
		AllowCacheTTL:             reviewCacheTTL,
		DenyCacheTTL:              reviewCacheTTL,
		WebhookRetryBackoff:       options.DefaultAuthWebhookRetryBackoff(),
	}.New()
	if err != nil {
		return nil, err
	}
	return union.New(
		// The aggregator's own requests for discovery come from this group.
		union.NamedAuthorizer{AuthorizerName: "masters", Authorizer: authorizerfactory.NewPrivilegedGroups("system:masters")},
		union.NamedAuthorizer{AuthorizerName: "open-paths", Authorizer: open},
		union.NamedAuthorizer{AuthorizerName: "reviews", Authorizer: reviews},
	)
}

// auditingAuthorizer writes an audit line, like the registry's, for each request to use or
// to change something that is refused before it reaches the registry. kube-apiserver's
// audit log has no line for a request that was sent to this server directly. A request
// about which kube-apiserver could not be asked is answered 503.
type auditingAuthorizer struct {
	authorizer.Authorizer

	log logr.Logger
}

// Authorize implements authorizer.Authorizer.
func (a auditingAuthorizer) Authorize(ctx context.Context, asked authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := a.Authorizer.Authorize(ctx, asked)
	if err != nil && decision != authorizer.DecisionAllow {
		outage.Note(ctx)
	}
	if decision == authorizer.DecisionAllow || asked.GetAPIGroup() != live.GroupName || asked.IsReadOnly() {
		return decision, reason, err
	}
	facts := append(audit.UserOf(ctx), "namespace", audit.Name(asked.GetNamespace()), subjectOf(asked), audit.Name(asked.GetName()),
		"subresource", audit.Name(asked.GetSubresource()), "verb", audit.Name(asked.GetVerb()), "path", audit.Exact(asked.GetPath()),
		"requestID", audit.Name(audit.RequestIDOf(ctx)))
	if err != nil {
		facts = append(facts, "code", http.StatusServiceUnavailable, "reason", metav1.StatusReasonServiceUnavailable,
			"message", driver.Sanitize(err.Error()))
	} else {
		facts = append(facts, "code", http.StatusForbidden, "reason", "Forbidden", "message", driver.Sanitize(reason))
	}
	a.log.Info("use refused", facts...)
	return decision, reason, err
}

// subjectOf returns the field that names what a request is about.
func subjectOf(asked authorizer.Attributes) string {
	switch asked.GetResource() {
	case "connectionpools":
		return "pool"
	case "connectiontargets":
		return "target"
	default: // sessions and connections
		return strings.TrimSuffix(asked.GetResource(), "s")
	}
}
