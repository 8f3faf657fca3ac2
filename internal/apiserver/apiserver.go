// Package apiserver serves the live API beside kube-apiserver: as an aggregated
// API, so that RBAC, audit and kubectl work as for everything else, and on the
// same port to clients that call it directly with a token.
//
//	config, err := apiserver.Options{...}.Config(ctx)
//	storage := registry.New(set, replica, use.Config{Authorizer: config.Authorizer(), ...}).Storage()
//	server, err := config.New(storage)
//	err = server.Run(ctx)
//
// It is k8s.io/apiserver without etcd: nothing is stored here. kube-apiserver says
// who a client is and what it may do, and its answers are cached for 10 s. Only
// health is open to anonymous clients.
//
// Trade-offs: the generic server brings discovery, OpenAPI and content negotiation
// that clients rely on, and with them much that is never used. It is worth it:
// every client library works unchanged.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	definitions "github.com/connpool/connpool/internal/apiserver/openapi"
	"github.com/connpool/connpool/internal/registry/quota"
)

const (
	// maxStreamsPerConnection bounds the requests on one HTTP/2 connection, each of which
	// may have 256 KiB of body that is not read yet. Clients, and the aggregator, open
	// another connection for more.
	maxStreamsPerConnection = 100
	// maxBodyBytes bounds the body of a request that is no use. The longest is a session
	// with an environment of 128 KiB.
	maxBodyBytes = 1 << 20
)

// cipherSuites are those of TLS 1.2, without CBC, which Go would offer for old clients.
// Those of TLS 1.3 are all good.
var cipherSuites = []string{
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
	"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}

// CipherSuites returns the suites of TLS 1.2 that the live API takes, for other ports of the
// operator.
func CipherSuites() []uint16 {
	suites, err := cliflag.TLSCipherSuites(cipherSuites)
	if err != nil {
		panic(err) // a name above is misspelled
	}
	return suites
}

// Options are what a server needs.
type Options struct {
	// Listener on which to serve; the server closes it.
	Listener net.Listener
	// Certificate of the server. It is read again each time it notifies the server of
	// a change.
	Certificate dynamiccertificates.CertKeyContentProvider
	// Cluster is how to reach kube-apiserver.
	Cluster *restclient.Config
	// Audit gets a line for each use of a connection that is not permitted. The
	// zero value writes none.
	Audit logr.Logger
	// Version of the program, for its OpenAPI description.
	Version string
	// Requests counts the bytes of the requests that are no uses, while they run.
	Requests *quota.Quota
	// Within handles requests that are permitted, before it passes them on; nil passes all on.
	Within func(http.Handler) http.Handler
	// Elected is closed when this replica leads; nil if it always does.
	Elected <-chan struct{}
	// ShutdownTimeout bounds how long requests may go on when Run's context ends.
	ShutdownTimeout time.Duration
}

// Config is all that a server needs but its storage.
type Config struct {
	generic    *server.RecommendedConfig
	codecs     serializer.CodecFactory
	scheme     *runtime.Scheme
	authorizer authorizer.Authorizer
}

// Config reads from kube-apiserver which authorities to trust, and follows changes
// until ctx ends.
func (o Options) Config(ctx context.Context) (*Config, error) {
	client, err := kubernetes.NewForConfig(o.Cluster)
	if err != nil {
		return nil, fmt.Errorf("make a client of kube-apiserver: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, fmt.Errorf("register the types: %w", err)
	}
	codecs := serializer.NewCodecFactory(scheme)
	config := server.NewRecommendedConfig(codecs)
	if err := o.apply(config, scheme); err != nil {
		return nil, err
	}
	authorizer, err := delegate(ctx, client, &config.Config, o.Audit)
	if err != nil {
		return nil, err
	}
	return &Config{generic: config, codecs: codecs, scheme: scheme, authorizer: authorizer}, nil
}

func (o Options) apply(config *server.RecommendedConfig, scheme *runtime.Scheme) error {
	serving := options.NewSecureServingOptions()
	accepted := newConnections(o.Listener)
	serving.Listener = accepted
	serving.ServerCert = options.GeneratableKeyCert{GeneratedCert: o.Certificate}
	serving.HTTP2MaxStreamsPerConnection = maxStreamsPerConnection
	serving.CipherSuites = cipherSuites
	if err := serving.WithLoopback().ApplyTo(&config.SecureServing, &config.LoopbackClientConfig); err != nil {
		return fmt.Errorf("serve on %s: %w", o.Listener.Addr(), err)
	}
	namer := openapi.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = server.DefaultOpenAPIConfig(definitions.GetOpenAPIDefinitions, namer)
	config.OpenAPIConfig.Info.Title, config.OpenAPIConfig.Info.Version = "connpool", o.Version
	config.OpenAPIV3Config = server.DefaultOpenAPIV3Config(definitions.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config.Info.Title, config.OpenAPIV3Config.Info.Version = "connpool", o.Version
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	config.RequestInfoResolver = verbResolver{server.NewRequestInfoResolver(&config.Config)}
	config.LongRunningFunc = func(_ *http.Request, info *request.RequestInfo) bool { return isUse(info) }
	within := o.Within
	if within == nil {
		within = func(api http.Handler) http.Handler { return api }
	}
	config.BuildHandlerChainFunc = func(api http.Handler, config *server.Config) http.Handler {
		return releasing(o.Elected, buildChain(accepted.track(withoutWatch(within(shared(api, o.Requests)))), config))
	}
	// Both would be one bound for all users. Options.Requests is shared by namespaces.
	config.MaxRequestsInFlight, config.MaxMutatingRequestsInFlight = 0, 0
	config.MaxRequestBodyBytes = maxBodyBytes
	config.ShutdownSendRetryAfter = false // a command must never be sent again
	config.EnableProfiling = false
	config.EnableIndex = false
	config.EnableMetrics = false                                // the manager's endpoint has them
	config.RequestTimeout = max(o.ShutdownTimeout, time.Minute) // it is also the timeout of the shutdown
	return nil
}

// Authorizer says what a user may do. Its answers are cached for 10 s.
func (c *Config) Authorizer() authorizer.Authorizer { return c.authorizer }

// Server is a live API that can be run.
type Server struct{ generic *server.GenericAPIServer }

// New makes a server. storage has the handler of each resource, by its name.
func (c *Config) New(storage map[string]rest.Storage) (*Server, error) {
	generic, err := c.generic.Complete().New("connpool", server.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("make the API server: %w", err)
	}
	group := server.NewDefaultAPIGroupInfo(live.GroupName, c.scheme, runtime.NewParameterCodec(c.scheme), c.codecs)
	group.VersionedResourcesStorageMap[live.GroupVersion.Version] = storage
	if err := generic.InstallAPIGroup(&group); err != nil {
		return nil, fmt.Errorf("install the live API: %w", err)
	}
	return &Server{generic: generic}, nil
}

// Run serves until ctx ends and requests have ended, upgraded ones excepted.
func (s *Server) Run(ctx context.Context) error {
	err := s.generic.PrepareRun().RunWithContext(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve the live API: %w", err)
	}
	return nil
}

// newScheme returns a scheme with the live API. Its one version is registered as the
// internal version, too, because the generic server needs one.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := live.AddToScheme(scheme); err != nil {
		return nil, err
	}
	internal := schema.GroupVersion{Group: live.GroupName, Version: runtime.APIVersionInternal}
	scheme.AddKnownTypes(internal,
		&live.Connection{}, &live.ConnectionList{}, &live.Session{}, &live.SessionList{}, &live.Use{}, &live.UseList{},
		&live.Exec{}, &live.Listing{}, &live.Drain{}, &live.Check{},
		&live.ExecOptions{}, &live.PortForwardOptions{}, &live.ProxyOptions{},
	)
	// Errors and discovery have no group of their own.
	unversioned := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(scheme, unversioned)
	scheme.AddUnversionedTypes(unversioned,
		&metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	return scheme, scheme.SetVersionPriority(live.GroupVersion)
}
