package serving

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

var _ dynamiccertificates.CertKeyContentProvider = (*CertRotator)(nil)

// Options say for which Services the certificate is. Namespace and Service are
// required.
type Options struct {
	// Namespace of the operator: of the Service and of the Secret.
	Namespace string
	// Service is the Service that clients call. The Secret has its name, followed by
	// -certs.
	Service string
	// Others are further Services that serve with the same certificate.
	Others []string
	// APIService gets the authorities as its caBundle, if it refers to the Service. It
	// may be empty.
	APIService string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// secretName is the name of the Secret that all replicas share.
func (o Options) secretName() string { return o.Service + "-certs" }

// names are the DNS names and addresses for which the certificate is good. The one
// that kube-apiserver calls is the first.
func (o Options) names() []string {
	var names []string
	for _, service := range append([]string{o.Service}, o.Others...) {
		inNamespace := service + "." + o.Namespace
		names = append(names, inNamespace+".svc", inNamespace+".svc.cluster.local", inNamespace, service)
	}
	return append(names, "localhost", "127.0.0.1")
}

// CertRotator holds the certificate with which to serve, and keeps it valid and
// trusted. It works on every replica. It is safe for concurrent use.
type CertRotator struct {
	options     Options
	secrets     coreclient.SecretInterface
	apiServices aggregatorclient.APIServiceInterface
	current     atomic.Pointer[served]
	// known is what the Secret held last, complete; nil before it was read.
	known atomic.Pointer[map[string][]byte]

	mu        sync.Mutex // guards listeners
	listeners []dynamiccertificates.Listener
}

// served is a certificate with its key, in PEM.
type served struct{ certificate, key []byte }

// NewCertRotator makes a rotator that has no certificate yet: see EnsureCertificate.
func NewCertRotator(config *rest.Config, options Options) (*CertRotator, error) {
	if options.Namespace == "" || options.Service == "" {
		return nil, errors.New("the namespace and the name of the live API's Service are required")
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	core, err := coreclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for Secrets: %w", err)
	}
	aggregator, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for APIServices: %w", err)
	}
	return &CertRotator{options: options, secrets: core.Secrets(options.Namespace), apiServices: aggregator.APIServices()}, nil
}

// EnsureCertificate returns when there is a certificate. When ctx ends before, it
// returns what the last try failed with. The APIService need not have the authority
// by then: Start sees to that.
func (r *CertRotator) EnsureCertificate(ctx context.Context) error {
	logger := log.FromContext(ctx).WithName("serving").WithValues("task", "get a serving certificate")
	var last error
	untilItWorks(ctx, logger, func(ctx context.Context) error {
		last = r.Refresh(ctx)
		if r.current.Load() != nil {
			return nil
		}
		return last
	})
	if r.current.Load() == nil {
		return fmt.Errorf("get a serving certificate: %w", last)
	}
	return nil
}

// Start implements manager.Runnable. Until ctx ends it calls Refresh once a minute, and at
// once when the Secret or the APIService changes: if an administrator has emptied the Secret,
// nothing trusts what the other replicas serve, and if a tool has overwritten the caBundle,
// kube-apiserver trusts none of them.
func (r *CertRotator) Start(ctx context.Context) error {
	var following sync.WaitGroup
	following.Go(func() { r.follow(ctx, r.options.secretName(), r.secrets) })
	if r.options.APIService != "" {
		following.Go(func() { r.follow(ctx, r.options.APIService, r.apiServices) })
	}
	defer following.Wait()
	repeat(ctx, "keep the serving certificate", r.Refresh)
	return nil
}

// watcher watches the objects of a resource.
type watcher interface {
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

// follow calls Refresh when the object of a name changes, until ctx ends. What fails in it
// is left to the next look.
func (r *CertRotator) follow(ctx context.Context, name string, objects watcher) {
	wait.JitterUntilWithContext(ctx, func(ctx context.Context) {
		only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()}
		changes, err := objects.Watch(ctx, only)
		if err != nil {
			return
		}
		defer changes.Stop()
		defer context.AfterFunc(ctx, changes.Stop)()
		_ = bounded(ctx, r.Refresh) // of what happened before there was a watch
		for range changes.ResultChan() {
			_ = bounded(ctx, r.Refresh)
			pause(ctx)
		}
	}, retryPeriod, spread, true)
}

// pause bounds how often a replica acts if another program changes the object each time.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(minGap):
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica
// serves.
func (r *CertRotator) NeedLeaderElection() bool { return false }

// Refresh does what is due to the Secret, gives its authorities to the APIService,
// and makes its certificate the current one. It does the last although the second
// fails.
func (r *CertRotator) Refresh(ctx context.Context) error {
	data, err := r.ensureSecret(ctx)
	if err != nil {
		return err
	}
	err = r.updateAPIService(ctx, data[authoritiesKey])
	r.activate(&served{certificate: data[certificateKey], key: data[privateKeyKey]})
	return err
}

// ensureSecret returns what the Secret holds after all that was due was done to
// it, by this replica or by another one. A replica that was quicker did what was
// due, so the second try nearly always finds nothing left to do.
func (r *CertRotator) ensureSecret(ctx context.Context) (data map[string][]byte, err error) {
	err = retry.OnError(retry.DefaultRetry, isOvertaken, func() error {
		data, err = r.tryEnsureSecret(ctx)
		return err
	})
	return data, err
}

// isOvertaken reports whether a write failed because another replica has written
// since the read before it.
func isOvertaken(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

func (r *CertRotator) tryEnsureSecret(ctx context.Context) (map[string][]byte, error) {
	secret, err := r.secrets.Get(ctx, r.options.secretName(), metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return nil, fmt.Errorf("read Secret %s: %w", r.options.secretName(), err)
	}
	if missing {
		secret = r.newSecret()
	}
	before := secret.Data
	secret.Data = r.restore(secret.Data, missing)
	next, due, err := renew(r.options.Now(), readContents(secret.Data), r.options.names())
	if err != nil {
		return nil, err
	}
	if err := next.write(secret.Data); err != nil {
		return nil, err
	}
	if !maps.EqualFunc(before, secret.Data, bytes.Equal) {
		if err := r.store(ctx, secret, missing); err != nil {
			return nil, fmt.Errorf("write Secret %s: %w", r.options.secretName(), err)
		}
		log.FromContext(ctx).WithName("serving").Info("renewed the serving certificate's Secret", "newAuthorityBecause", due.authority,
			"newCertificateBecause", due.certificate, "authoritiesForgotten", due.forgotten, "missing", missing)
	}
	r.known.Store(new(maps.Clone(secret.Data)))
	return secret.Data, nil
}

// restore returns what a Secret holds, with what this replica knows in place of what was
// deleted or cannot be read. So no request fails when a Secret is deleted by mistake. What is
// there but empty was emptied by an administrator, who wants it anew.
func (r *CertRotator) restore(data map[string][]byte, missing bool) map[string][]byte {
	known := r.known.Load()
	switch {
	case known != nil && missing:
		return maps.Clone(*known)
	case known == nil:
		known = &map[string][]byte{}
	}
	restored := map[string][]byte{}
	maps.Copy(restored, data)
	found := readContents(data)
	if len(data[authoritiesKey]) > 0 && len(found.authorities) == 0 || len(data[authorityKeyKey]) > 0 && found.signer == nil {
		copyKnown(restored, *known, authoritiesKey, authorityKeyKey)
	}
	if found.certificate == nil && len(data[certificateKey])+len(data[privateKeyKey]) > 0 {
		copyKnown(restored, *known, certificateKey, privateKeyKey)
	}
	return restored
}

func copyKnown(into, known map[string][]byte, keys ...string) {
	for _, key := range keys {
		if value, ok := known[key]; ok {
			into[key] = value
		}
	}
}

func (r *CertRotator) newSecret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.options.Namespace,
			Name:      r.options.secretName(),
			Labels:    map[string]string{"app.kubernetes.io/name": "connpool", "app.kubernetes.io/managed-by": "connpool"},
		},
		Type: corev1.SecretTypeTLS,
	}
}

func (r *CertRotator) store(ctx context.Context, secret *corev1.Secret, missing bool) (err error) {
	if missing {
		_, err = r.secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		_, err = r.secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	return err
}

// updateAPIService writes the bundle into the APIService, so that kube-apiserver
// trusts it. An APIService that is missing, or that refers to another Service, is
// left alone.
func (r *CertRotator) updateAPIService(ctx context.Context, bundle []byte) error {
	if r.options.APIService == "" {
		return nil
	}
	found, err := r.apiServices.Get(ctx, r.options.APIService, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read APIService %s: %w", r.options.APIService, err)
	}
	if !r.isOurs(found.Spec.Service) || bytes.Equal(found.Spec.CABundle, bundle) {
		return nil
	}
	// An APIService with insecureSkipTLSVerify must not have a bundle.
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"caBundle": bundle, "insecureSkipTLSVerify": nil}})
	if err != nil {
		return err
	}
	if _, err := r.apiServices.Patch(ctx, found.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("write the caBundle of APIService %s: %w", found.Name, err)
	}
	log.FromContext(ctx).WithName("serving").Info("wrote the caBundle of the APIService", "name", found.Name)
	return nil
}

func (r *CertRotator) isOurs(service *apiregistrationv1.ServiceReference) bool {
	return service != nil && service.Namespace == r.options.Namespace && service.Name == r.options.Service
}

// activate makes next what new connections are served with, and tells the
// listeners if that is another certificate or key.
func (r *CertRotator) activate(next *served) {
	before := r.current.Swap(next)
	if before != nil && bytes.Equal(before.certificate, next.certificate) && bytes.Equal(before.key, next.key) {
		return
	}
	r.mu.Lock()
	listeners := slices.Clone(r.listeners)
	r.mu.Unlock()
	for _, listener := range listeners {
		listener.Enqueue()
	}
}

// Name implements dynamiccertificates.CertKeyContentProvider. It says for logs where
// the certificate is from.
func (r *CertRotator) Name() string {
	return "secret/" + r.options.Namespace + "/" + r.options.secretName()
}

// CurrentCertKeyContent returns the certificate and its key in PEM; both are nil
// before there is one.
func (r *CertRotator) CurrentCertKeyContent() (certificate, key []byte) {
	current := r.current.Load()
	if current == nil {
		return nil, nil
	}
	return current.certificate, current.key
}

// AddListener implements dynamiccertificates.Notifier. The listener is told when the
// certificate or its key has changed.
func (r *CertRotator) AddListener(listener dynamiccertificates.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners = append(r.listeners, listener)
}
