package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/apiserver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry"
	"github.com/connpool/connpool/internal/serving"
)

// liveOptions are the flags of the live API.
type liveOptions struct {
	address        string
	certFile       string
	keyFile        string
	service        string
	namespace      string
	advertise      string
	streamsPerUser int
	streamsPerPool int
	auditCommands  bool

	// api is what came of them; nil until there is one.
	api *liveAPI
}

func (o *liveOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.address, "live-bind-address", ":9443", "address of the live API; 0 turns it off")
	flags.StringVar(&o.certFile, "tls-cert-file", "",
		"certificate of the live API, from cert-manager for example; one is issued and rotated by the operator itself when empty")
	flags.StringVar(&o.keyFile, "tls-private-key-file", "", "key of --tls-cert-file")
	flags.StringVar(&o.service, "live-service", "connpool-live", "name of the Service of the live API")
	flags.StringVar(&o.namespace, "live-namespace", os.Getenv("POD_NAMESPACE"),
		"namespace of that Service and of the certificates; POD_NAMESPACE when empty")
	flags.StringVar(&o.advertise, "live-advertise-address", os.Getenv("POD_IP"),
		"IP at which this replica is found while it holds the connections; POD_IP when empty; without either it is not published")
	flags.IntVar(&o.streamsPerUser, "max-streams-per-user", 2000, "commands and forwards of one user at the same time; 0 for no bound")
	flags.IntVar(&o.streamsPerPool, "max-streams-per-pool", 2000, "commands and forwards in one pool at the same time; 0 for no bound")
	flags.BoolVar(&o.auditCommands, "audit-commands", false, "put the words of commands into audit lines; they may hold secrets")
}

// off reports that the live API is not wanted.
func (o *liveOptions) off() bool { return o.address == "" || o.address == "0" }

func (o *liveOptions) validate() error {
	switch {
	case o.off():
		return nil
	case (o.certFile == "") != (o.keyFile == ""):
		return errors.New("--tls-cert-file and --tls-private-key-file belong together; set both or none")
	case filepath.Dir(o.certFile) != filepath.Dir(o.keyFile):
		return errors.New("--tls-cert-file and --tls-private-key-file must be in one directory")
	case o.certFile == "" && o.namespace == "":
		return errors.New("--live-namespace must name the namespace of the operator's Service, where its certificates are kept")
	case o.streamsPerUser < 0 || o.streamsPerPool < 0:
		return errors.New("--max-streams-per-user and --max-streams-per-pool must not be negative")
	}
	return nil
}

// liveAPI is the live API of this replica. Every replica serves it.
type liveAPI struct {
	server interface {
		Run(ctx context.Context) error
	}
	uses interface {
		Wait(ctx context.Context) error
	}
	// serving is done when nothing listens any more and every answer is sent.
	serving sync.WaitGroup
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (l *liveAPI) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable. It returns with ctx, while what was accepted
// goes on: the manager gives the Lease back only when everything in it has ended,
// and nobody would serve as long as somebody leaves a shell open.
func (l *liveAPI) Start(ctx context.Context) error {
	failed := make(chan error, 1)
	l.serving.Go(func() { failed <- l.server.Run(ctx) })
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// finish waits for what was accepted. It cuts what is left when ctx ends.
func (l *liveAPI) finish(ctx context.Context) {
	if l == nil {
		return
	}
	_ = l.uses.Wait(ctx) // who is cut is told so
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

// wireLive registers the live API in the manager.
func (o *options) wireLive(ctx context.Context, mgr manager.Manager, pools *poolset.Set, certificate servingCertificate) error {
	if o.live.off() {
		return nil
	}
	if keeper, ok := certificate.(*serving.Keeper); ok {
		if err := mgr.Add(keeper); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.live.address)
	if err != nil {
		return fmt.Errorf("serve the live API: %w; choose another address with --live-bind-address", err)
	}
	config, err := apiserver.Options{
		Listener: listener, Certificate: certificate, Cluster: mgr.GetConfig(),
		Audit: mgr.GetLogger().WithName("audit"), Version: version, ShutdownTimeout: o.drainTimeout,
	}.Config(ctx)
	if err != nil {
		return fmt.Errorf("set up the live API: %w", err)
	}
	storage := registry.New(registry.Config{
		Pools:         pools,
		Objects:       objects{mgr.GetClient()},
		Authorizer:    config.Authorizer(),
		Audit:         mgr.GetLogger().WithName("audit"),
		AuditCommands: o.live.auditCommands,
		Replica:       o.replica,
		Limits:        registry.Limits{StreamsPerUser: o.live.streamsPerUser, StreamsPerPool: o.live.streamsPerPool},
	})
	server, err := config.New(storage.Storage())
	if err != nil {
		return fmt.Errorf("set up the live API: %w", err)
	}
	if err := o.live.publish(mgr, listener.Addr()); err != nil {
		return err
	}
	o.live.api = &liveAPI{server: server, uses: storage}
	return mgr.Add(o.live.api)
}

// servingCertificate is what the live API and the metrics serve with.
type servingCertificate = dynamiccertificates.CertKeyContentProvider

// certificate is that of the files, else one that the operator keeps itself; nil
// without a live API.
func (o *liveOptions) certificate(ctx context.Context, cluster *rest.Config) (servingCertificate, error) {
	if o.off() {
		return nil, nil //nolint:nilnil // nothing needs one
	}
	if o.certFile != "" {
		files, err := dynamiccertificates.NewDynamicServingContentFromFiles("live-api", o.certFile, o.keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of the live API: %w; check --tls-cert-file and --tls-private-key-file", err)
		}
		return files, nil
	}
	keeper, err := serving.NewKeeper(cluster, serving.Options{
		Namespace: o.namespace, Service: o.service, Others: []string{metricsService},
		APIService: live.GroupVersion.Version + "." + live.GroupName,
	})
	if err != nil {
		return nil, err
	}
	return keeper, keeper.EnsureCertificate(ctx)
}

// metricsService is the Service of the metrics in config/manager.
const metricsService = "connpool-metrics"

// serveMetricsWith lets the metrics have the same certificate as the live API, so
// that a scraper can verify it. Without one, they have one of their own.
func (o *options) serveMetricsWith(c servingCertificate, metrics *metricsserver.Options) {
	switch c := c.(type) {
	case *serving.Keeper:
		metrics.TLSOpts = append(metrics.TLSOpts, func(config *tls.Config) { config.GetCertificate = c.GetCertificate })
	case nil:
	default:
		metrics.CertDir, metrics.CertName = filepath.Split(o.live.certFile)
		metrics.KeyName = filepath.Base(o.live.keyFile)
	}
}

// publish leads the Service to this replica while it is the leader.
func (o *liveOptions) publish(mgr manager.Manager, listening net.Addr) error {
	if o.advertise == "" {
		return nil
	}
	here, err := netip.ParseAddrPort(listening.String())
	if err != nil {
		return fmt.Errorf("publish the live API: %w", err)
	}
	publisher, err := serving.NewPublisher(mgr.GetConfig(), serving.Endpoint{
		Namespace: o.namespace, Service: o.service,
		Address: o.advertise, Port: int32(here.Port()),
	})
	if err != nil {
		return fmt.Errorf("publish the live API: %w; check --live-advertise-address", err)
	}
	return mgr.Add(publisher)
}

// objects reads what is declared from the manager's cache.
type objects struct{ cache client.Reader }

// Pool implements registry.Objects.
func (o objects) Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	var pool v1alpha1.ConnectionPool
	err := o.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pool, client.UnsafeDisableDeepCopy)
	return &pool, err
}

// Target implements registry.Objects.
func (o objects) Target(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error) {
	var target v1alpha1.ConnectionTarget
	err := o.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &target, client.UnsafeDisableDeepCopy)
	return &target, err
}

// Targets implements registry.Objects.
func (o objects) Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	var targets v1alpha1.ConnectionTargetList
	err := o.cache.List(ctx, &targets, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	return targets.Items, err
}
