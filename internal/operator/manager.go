package operator

import (
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/leader"
	"github.com/connpool/connpool/internal/watched"
)

// newManager makes a manager that serves health, and metrics with the certificate.
// It watches the namespaces.
func (o *Options) newManager(
	cluster *rest.Config, certificate servingCertificate, namespaces *watched.Namespaces,
) (manager.Manager, error) {
	settings := o.managerOptions()
	settings.Cache = cacheOptions(namespaces)
	if o.LeaderElect {
		namespace, err := o.leaseNamespace()
		if err != nil {
			return nil, err
		}
		settings.LeaderElectionResourceLockInterface, err = leader.NewLock(
			cluster, namespace, o.Replica, os.Getenv("POD_UID"), ctrl.Log.WithName("leader"))
		if err != nil {
			return nil, err
		}
	}
	serveMetricsWith(certificate, &settings.Metrics)
	mgr, err := ctrl.NewManager(cluster, settings)
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	// Both fail only on a manager that runs.
	return mgr, errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping))
}

func (o *Options) managerOptions() manager.Options {
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme) // it fails only on duplicate registration,
	_ = v1alpha1.AddToScheme(scheme)       // and so does this one
	return manager.Options{
		Scheme:                        scheme,
		HealthProbeBindAddress:        o.ProbeAddress,
		PprofBindAddress:              o.ProfileAddress,
		LeaderElection:                o.LeaderElect,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leader.LeaseDuration),
		RenewDeadline:                 new(leader.RenewDeadline),
		RetryPeriod:                   new(leader.RetryPeriod),
		Metrics: metricsserver.Options{
			BindAddress:    o.MetricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
	}
}

// cacheOptions reads the namespaces, and keeps Secrets and ConfigMaps out of memory unless
// they have the label of credentials.
func cacheOptions(namespaces *watched.Namespaces) cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{
		v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue,
	})}
	options := cache.Options{
		DefaultNamespaces:           namespaces.Cache(),
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:    ours,
			&corev1.ConfigMap{}: ours,
		},
	}
	if options.DefaultNamespaces != nil {
		options.NewInformer = watched.NewInformer
	}
	return options
}
