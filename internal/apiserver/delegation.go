package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// reviewCacheTTL is how long an answer of kube-apiserver about a token or a
	// permission is cached.
	reviewCacheTTL = 10 * time.Second
	// reviewTimeout bounds one token review.
	reviewTimeout = 10 * time.Second
	// trustConfigMap names the ConfigMap that holds the authorities of the aggregator
	// and of clients with certificates. Every kube-apiserver keeps it in kube-system.
	trustConfigMap = "extension-apiserver-authentication"
)

// openPaths are open to anonymous clients: health, for probes.
var openPaths = []string{"/healthz", "/livez", "/readyz"}

// errOpenProxy refuses a cluster in which any client certificate of the front
// proxy's authority could speak for any user.
var errOpenProxy = errors.New("kube-apiserver runs without --requestheader-allowed-names: " +
	"any certificate of its --requestheader-client-ca-file could claim to be any user; name the front proxy there")

// delegate makes the server ask kube-apiserver who a client is and what it may do,
// and returns the authorizer that asks. The generic server's own options do the same,
// but they let every client in as system:anonymous, and read their configuration
// from kubeconfig files only.
func delegate(ctx context.Context, client kubernetes.Interface, config *server.Config, log logr.Logger) (authorizer.Authorizer, error) {
	clientCA, proxy, err := trust(ctx, client)
	if err != nil {
		return nil, err
	}
	config.Authentication.RequestHeaderConfig = proxy
	config.Authentication.Authenticator, _, err = authenticatorfactory.DelegatingAuthenticatorConfig{
		Anonymous:                          &apiserver.AnonymousAuthConfig{Enabled: true, Conditions: openConditions()},
		TokenAccessReviewClient:            client.AuthenticationV1(),
		TokenAccessReviewTimeout:           reviewTimeout,
		WebhookRetryBackoff:                options.DefaultAuthWebhookRetryBackoff(),
		CacheTTL:                           reviewCacheTTL,
		ClientCertificateCAContentProvider: clientCA,
		RequestHeaderConfig:                proxy,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("delegate authentication: %w", err)
	}
	reviews, err := newAuthorizer(client)
	if err != nil {
		return nil, fmt.Errorf("delegate authorization: %w", err)
	}
	config.Authorization.Authorizer = auditingAuthorizer{reviews, log}
	if err := errors.Join(
		config.Authentication.ApplyClientCert(clientCA, config.SecureServing),
		config.Authentication.ApplyClientCert(proxy.CAContentProvider, config.SecureServing),
	); err != nil {
		return nil, fmt.Errorf("trust the clients' authorities: %w", err)
	}
	return reviews, nil
}

// trust reads, and follows, which authorities may certify clients and the front
// proxy.
func trust(ctx context.Context, client kubernetes.Interface) (
	dynamiccertificates.CAContentProvider, *authenticatorfactory.RequestHeaderConfig, error,
) {
	clientCA, clientErr := dynamiccertificates.NewDynamicCAFromConfigMapController(
		"client-ca", metav1.NamespaceSystem, trustConfigMap, "client-ca-file", client)
	proxyCA, proxyErr := dynamiccertificates.NewDynamicCAFromConfigMapController(
		"request-header-ca", metav1.NamespaceSystem, trustConfigMap, "requestheader-client-ca-file", client)
	if err := errors.Join(clientErr, proxyErr); err != nil {
		return nil, nil, fmt.Errorf("find the authorities of the clients and of the front proxy: %w", err)
	}
	headers := headerrequest.NewRequestHeaderAuthRequestController(trustConfigMap, metav1.NamespaceSystem, client,
		"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
		"requestheader-extra-headers-prefix", "requestheader-allowed-names")
	if err := errors.Join(proxyCA.RunOnce(ctx), headers.RunOnce(ctx)); err != nil {
		return nil, nil, fmt.Errorf("read ConfigMap %s in kube-system: %w", trustConfigMap, err)
	}
	if len(headers.AllowedClientNames()) == 0 {
		return nil, nil, errOpenProxy
	}
	go headers.Run(ctx, 1)
	return clientCA, &authenticatorfactory.RequestHeaderConfig{
		CAContentProvider:   proxyCA,
		UsernameHeaders:     headerrequest.StringSliceProviderFunc(headers.UsernameHeaders),
		UIDHeaders:          headerrequest.StringSliceProviderFunc(headers.UIDHeaders),
		GroupHeaders:        headerrequest.StringSliceProviderFunc(headers.GroupHeaders),
		ExtraHeaderPrefixes: headerrequest.StringSliceProviderFunc(headers.ExtraHeaderPrefixes),
		AllowedClientNames:  namesProvider(headers.AllowedClientNames),
	}, nil
}

// namesProvider replaces an empty list by one with a name that no certificate has.
// The library would let every certificate of the authority speak for any user if
// the list became empty.
func namesProvider(names func() []string) headerrequest.StringSliceProvider {
	return headerrequest.StringSliceProviderFunc(func() []string {
		if names := names(); len(names) > 0 {
			return names
		}
		return []string{"\x00no certificate"}
	})
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

// auditingAuthorizer writes an audit line, like the registry's, for each use that is
// refused before the request reaches the registry. kube-apiserver's audit log has no
// line for a request that was sent to this server directly.
type auditingAuthorizer struct {
	authorizer.Authorizer

	log logr.Logger
}

// Authorize implements authorizer.Authorizer.
func (a auditingAuthorizer) Authorize(ctx context.Context, request authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := a.Authorizer.Authorize(ctx, request)
	if decision != authorizer.DecisionAllow && isUsed(request.GetSubresource()) {
		a.log.Info("use refused",
			"user", driver.Sanitize(request.GetUser().GetName()), "namespace", driver.Sanitize(request.GetNamespace()),
			"pool", driver.Sanitize(request.GetName()), "subresource", request.GetSubresource(),
			"requestID", audit.GetAuditIDTruncated(ctx), "code", http.StatusForbidden, "reason", "Forbidden")
	}
	return decision, reason, err
}
