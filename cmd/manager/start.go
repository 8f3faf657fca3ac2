package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/controller/connectionpool"
	"github.com/connpool/connpool/internal/controller/connectiontarget"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver/docker"
	"github.com/connpool/connpool/internal/driver/kube"
	"github.com/connpool/connpool/internal/driver/ssh"
	connpoolmetrics "github.com/connpool/connpool/internal/metrics"
	"github.com/connpool/connpool/internal/poolset"
)

// Dial budgets shared by all pools: so many handshakes at once that a restart is
// quick, so few that no sshd throttles us.
const (
	dialsPerProcess = 30
	dialsPerHost    = 3
	dialsPerBastion = 6
)

// The leader holds the connections, until replicas share the targets. Its Lease
// is renewed as rarely as a quick successor allows, because every renewal is an
// API write, and an idle operator may cost one in 10 s. A replica that ends
// gives the Lease back, so only a killed one is waited for. See patientLock for
// outages of kube-apiserver.
const (
	leaseDuration = 36 * time.Second
	renewDeadline = 24 * time.Second
	retryPeriod   = 12 * time.Second
)

// gcPercent is the headroom of the garbage collector, unless GOGC says
// otherwise. Idle connections are most of the heap and make little garbage, so
// Go's default of 100 would keep about 20 KiB more for each of them resident.
const gcPercent = 50

// start runs the manager until ctx ends, then drains.
func (o *options) start(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	mgr, certificate, err := o.newManager(ctx, config)
	if err != nil {
		return err
	}
	pools := poolset.New(o.policy().Dial, connpool.NewBudget(dialsPerProcess, dialsPerHost, dialsPerBastion))
	if err := o.wire(ctx, mgr, pools, certificate); err != nil {
		return err
	}
	err = mgr.Start(ctx)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drainTimeout)
	defer cancel()
	o.live.api.finish(ctx)
	pools.Close(ctx)
	if err != nil {
		return fmt.Errorf("run the manager: %w", err)
	}
	return nil
}

func (o *options) config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; name a kubeconfig with --kubeconfig, or run in a pod", err)
	}
	// Priority and fairness on the server is the limit; ours is the pace of statuses.
	config.QPS, config.Burst = -1, -1
	return config, nil
}

// newManager makes the manager, and the certificate that it serves with.
func (o *options) newManager(ctx context.Context, config *rest.Config) (manager.Manager, servingCertificate, error) {
	certificate, err := o.live.certificate(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	settings := o.manager()
	if o.leaderElect {
		if settings.LeaderElectionResourceLockInterface, err = o.newLock(config, ctrl.Log.WithName("leader")); err != nil {
			return nil, nil, err
		}
	}
	o.serveMetricsWith(certificate, &settings.Metrics)
	mgr, err := ctrl.NewManager(config, settings)
	if err != nil {
		return nil, nil, fmt.Errorf("make the manager: %w", err)
	}
	return mgr, certificate, nil
}

func (o *options) manager() manager.Options {
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme) // both fail only on
	_ = v1alpha1.AddToScheme(scheme)       // duplicate registration
	lease, renew, retry := leaseDuration, renewDeadline, retryPeriod
	return manager.Options{
		Scheme:                        scheme,
		Cache:                         cacheOptions(),
		HealthProbeBindAddress:        o.probeAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
		Metrics: metricsserver.Options{
			BindAddress:    o.metricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
	}
}

// cacheOptions keep Secrets and ConfigMaps out of memory unless they are
// labeled for us.
func cacheOptions() cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{
		v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue,
	})}
	return cache.Options{
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:    ours,
			&corev1.ConfigMap{}: ours,
		},
	}
}

// wire registers what runs in the manager.
func (o *options) wire(ctx context.Context, mgr manager.Manager, pools *poolset.Set, certificate servingCertificate) error {
	budget, recorder := status.NewBudget(), mgr.GetEventRecorder("connpool")
	targets := &connectiontarget.Reconciler{
		Client:  mgr.GetClient(),
		Reader:  mgr.GetAPIReader(),
		Pools:   pools,
		Drivers: o.drivers(),
		Replica: o.replica,
		Writer:  connectiontarget.NewWriter(mgr.GetClient(), recorder, status.NewPace[v1alpha1.ConnectionTargetStatus](budget)),
	}
	if err := targets.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("set up the connectiontarget controller: %w", err)
	}
	sums := &connectionpool.Reconciler{
		Client: mgr.GetClient(),
		Writer: connectionpool.NewWriter(mgr.GetClient(), recorder, status.NewPace[v1alpha1.ConnectionPoolStatus](budget)),
	}
	if err := sums.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the connectionpool controller: %w", err)
	}
	if err := o.wireLive(ctx, mgr, pools, certificate); err != nil {
		return err
	}
	if err := metrics.Registry.Register(connpoolmetrics.NewCollector(pools)); err != nil {
		return fmt.Errorf("register the metrics: %w", err)
	}
	return o.checks(mgr)
}

// drivers are the protocols that this build speaks.
func (o *options) drivers() connectiontarget.Drivers {
	return connectiontarget.Drivers{
		v1alpha1.TargetTypeSSH:        ssh.New(ssh.Options{}),
		v1alpha1.TargetTypeDocker:     docker.New(docker.Options{}),
		v1alpha1.TargetTypeKubernetes: kube.New(kube.Options{QPS: float32(o.kubernetes.qps), Burst: o.kubernetes.burst}),
	}
}

func (o *options) checks(mgr manager.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	return nil
}
