package operator

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/apiserver"
	"github.com/connpool/connpool/internal/registry"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/serving"
)

// LiveOptions are the settings of the live API; their flags say what they mean.
type LiveOptions struct {
	Address            string
	CertFile, KeyFile  string
	Service, Namespace string
	Advertise          string
	Limits             limits.Limits // Memory has no flag
	AuditCommands      bool
}

func (o *LiveOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.Address, "live-bind-address", ":9443", "address of the live API; 0 turns it off")
	flags.StringVar(&o.CertFile, "tls-cert-file", "",
		"certificate of the live API, from cert-manager for example; one is issued and rotated by the operator itself when empty")
	flags.StringVar(&o.KeyFile, "tls-private-key-file", "", "key of --tls-cert-file")
	flags.StringVar(&o.Service, "live-service", "connpool-live", "name of the Service of the live API")
	flags.StringVar(&o.Namespace, "live-namespace", os.Getenv("POD_NAMESPACE"),
		"namespace of that Service and of the certificates; POD_NAMESPACE when empty")
	flags.StringVar(&o.Advertise, "live-advertise-address", os.Getenv("POD_IP"),
		"IP at which this replica is found while it holds the connections; POD_IP when empty; without either it is not published")
	o.registerLimits(flags)
	flags.BoolVar(&o.AuditCommands, "audit-commands", false, "put the words of commands into audit lines; they may hold secrets")
}

func (o *LiveOptions) registerLimits(flags *flag.FlagSet) {
	const follows = "; 0 for no bound; the default follows from the memory limit"
	l, memory := &o.Limits, o.Limits.Planned()
	flags.IntVar(&l.Streams, "max-streams", scaled(4000, memory),
		"uses of all users at the same time: commands, sessions, proxied requests, port-forwards"+follows)
	flags.IntVar(&l.StreamsPerUser, "max-streams-per-user", scaled(2000, memory), "uses of one user at the same time"+follows)
	flags.IntVar(&l.StreamsPerPool, "max-streams-per-pool", scaled(2000, memory), "uses of one pool at the same time"+follows)
	flags.IntVar(&l.Forwards, "max-forwarded-connections", scaled(400, memory),
		"connections through the port-forwards of all users at the same time, each of which can hold 2 MiB"+follows)
	flags.IntVar(&l.ForwardsPerUser, "max-forwarded-connections-per-user", scaled(100, memory),
		"connections through the port-forwards of one user at the same time"+follows)
	flags.Float64Var(&l.NamespaceShare, "namespace-share", limits.DefaultNamespaceShare,
		"part of --max-streams, of --max-forwarded-connections and of the memory for requests that each namespace has for itself; "+
			"it gets more while half of the whole is free")
}

// off reports whether the live API is turned off.
func (o *LiveOptions) off() bool { return o.Address == "" || o.Address == "0" }

func (o *LiveOptions) validate() error {
	switch {
	case o.off():
		return nil
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("--tls-cert-file and --tls-private-key-file belong together; set both or none")
	case filepath.Dir(o.CertFile) != filepath.Dir(o.KeyFile):
		return errors.New("--tls-cert-file and --tls-private-key-file must be in one directory")
	case o.CertFile == "" && o.Namespace == "":
		return errors.New("--live-namespace must name the namespace of the operator's Service, where its certificates are kept")
	}
	return validateLimits(&o.Limits)
}

func validateLimits(l *limits.Limits) error {
	switch {
	case min(l.Streams, l.StreamsPerUser, l.StreamsPerPool) < 0:
		return errors.New("--max-streams, --max-streams-per-user and --max-streams-per-pool must not be negative")
	case min(l.Forwards, l.ForwardsPerUser) < 0:
		return errors.New("--max-forwarded-connections and --max-forwarded-connections-per-user must not be negative")
	case l.NamespaceShare <= 0 || l.NamespaceShare > 1:
		return errors.New("--namespace-share must be more than 0 and at most 1, such as 0.125 for an eighth")
	}
	return nil
}

// metricsService returns the name of the Service of the metrics: the manifests and the
// chart name both Services after the installation, as in connpool-live and
// connpool-metrics.
func (o *LiveOptions) metricsService() string {
	return strings.TrimSuffix(o.Service, "-live") + "-metrics"
}

// servingCertificate is what the live API and the metrics serve with.
type servingCertificate = dynamiccertificates.CertKeyContentProvider

// certificate returns the certificate of the files, or without files one that the
// operator issues itself. It returns nil when the live API is off.
func (o *LiveOptions) certificate(ctx context.Context, cluster *rest.Config) (servingCertificate, error) {
	if o.off() {
		return nil, nil //nolint:nilnil // nothing needs one
	}
	if o.CertFile != "" {
		files, err := dynamiccertificates.NewDynamicServingContentFromFiles("live-api", o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of the live API: %w; check --tls-cert-file and --tls-private-key-file", err)
		}
		return files, nil
	}
	rotator, err := serving.NewCertRotator(cluster, serving.Options{
		Namespace: o.Namespace, Service: o.Service, Others: []string{o.metricsService()},
		APIService: live.GroupVersion.Version + "." + live.GroupName,
	})
	if err != nil {
		return nil, err
	}
	return rotator, rotator.EnsureCertificate(ctx)
}

// serveMetricsWith lets the metrics have the same certificate as the live API, so
// that a scraper can verify it. Without one, controller-runtime makes one for the
// metrics that no scraper can verify.
func serveMetricsWith(c servingCertificate, metrics *metricsserver.Options) {
	if c == nil {
		return
	}
	metrics.TLSOpts = append(metrics.TLSOpts, func(config *tls.Config) {
		config.CipherSuites = apiserver.CipherSuites()
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.X509KeyPair(c.CurrentCertKeyContent())
			return &pair, err
		}
	})
}

// liveAPI is the live API of this replica. Every replica serves it.
type liveAPI struct {
	serve       func(context.Context) error // runs the API server
	relieve     func(context.Context)       // keeps its memory bounded; nil without a limit
	waitForUses func(context.Context) error // cuts them when the context ends
	// serving is done when nothing listens any more and every answer is sent.
	serving sync.WaitGroup
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (l *liveAPI) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable. It returns when ctx ends, although uses that
// were accepted go on: the manager gives the Lease back only when each of its
// runnables has returned, and no replica would lead as long as a user leaves a
// shell open.
func (l *liveAPI) Start(ctx context.Context) error {
	failed := make(chan error, 1)
	relieving, stop := context.WithCancel(context.WithoutCancel(ctx)) // uses go on when ctx ends
	l.serving.Go(func() {
		defer stop()
		failed <- l.serve(ctx)
	})
	if l.relieve != nil {
		go l.relieve(relieving)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// finish waits until every accepted use has ended and its client has the answer.
// When ctx ends, it cuts the uses that are left.
func (l *liveAPI) finish(ctx context.Context) {
	if l == nil {
		return
	}
	_ = l.waitForUses(ctx) // each client is told when its use is cut
	answered := make(chan struct{})
	go func() {
		l.serving.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

// addLiveAPI adds the live API, and what keeps its certificate, to the manager.
func (op *Operator) addLiveAPI(ctx context.Context, certificate servingCertificate) error {
	o := &op.options.Live
	if o.off() {
		return nil
	}
	if rotator, ok := certificate.(*serving.CertRotator); ok {
		if err := op.manager.Add(rotator); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return fmt.Errorf("serve the live API: %w; choose another address with --live-bind-address", err)
	}
	if op.live, err = op.newLiveAPI(ctx, listener, certificate); err != nil {
		return fmt.Errorf("set up the live API: %w", err)
	}
	if err := o.publish(op.manager, netip.MustParseAddrPort(listener.Addr().String()).Port()); err != nil {
		return err
	}
	return op.manager.Add(op.live)
}

func (op *Operator) newLiveAPI(ctx context.Context, listener net.Listener, certificate servingCertificate) (*liveAPI, error) {
	o, audit, bounds := op.options, op.options.Audit.Logger, op.options.Live.Limits
	config, err := apiserver.Options{
		Listener: listener, Certificate: certificate, Cluster: op.manager.GetConfig(),
		Audit: audit, Version: o.Version, ShutdownTimeout: o.DrainTimeout,
		Elected:  op.manager.Elected(),
		Requests: bounds.Requests(),
		Within:   func(api http.Handler) http.Handler { return op.namespaces.Refuse(audit, api) },
	}.Config(ctx)
	if err != nil {
		return nil, err
	}
	uses := registry.New(op.pools, o.Replica, use.Config{
		Objects:       objects{op.manager.GetClient()},
		Authorizer:    config.Authorizer(),
		Audit:         audit,
		AuditCommands: o.Live.AuditCommands,
		Tracer:        op.tracer,
		Meter:         op.collector,
		Limits:        bounds,
	})
	server, err := config.New(uses.Storage())
	if err != nil {
		return nil, err
	}
	served := &liveAPI{serve: server.Run, waitForUses: uses.Wait}
	if bounds.Memory > 0 {
		memory := &relief{
			limit: bounds.Memory, relieve: uses.Relieve, await: uses.AwaitOutput,
			collect: collectGarbage, log: op.manager.GetLogger().WithName("memory"),
		}
		served.relieve = memory.run
	}
	return served, nil
}

// publish adds to the manager what points the Service at this replica, and the port
// that the live API got, while it leads.
func (o *LiveOptions) publish(mgr manager.Manager, port uint16) error {
	if o.Advertise == "" {
		return nil
	}
	publisher, err := serving.NewPublisher(mgr.GetConfig(), serving.Endpoint{
		Namespace: o.Namespace, Service: o.Service,
		Address: o.Advertise, Port: int32(port),
	})
	if err != nil {
		return fmt.Errorf("publish the live API: %w; check --live-advertise-address", err)
	}
	return mgr.Add(publisher)
}

// objects reads pools and targets from the manager's cache. What it returns is
// shared with the cache and must not be changed.
type objects struct{ cache client.Reader }

// Pool implements use.Objects.
func (o objects) Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	var pool v1alpha1.ConnectionPool
	err := o.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pool, client.UnsafeDisableDeepCopy)
	return &pool, err
}

// Target implements use.Objects.
func (o objects) Target(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error) {
	var target v1alpha1.ConnectionTarget
	err := o.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &target, client.UnsafeDisableDeepCopy)
	return &target, err
}

// Targets implements use.Objects.
func (o objects) Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	var targets v1alpha1.ConnectionTargetList
	err := o.cache.List(ctx, &targets, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	return targets.Items, err
}
