package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

var (
	_ dynamiccertificates.CertKeyContentProvider = (*Keeper)(nil)
	_ dynamiccertificates.Notifier               = (*Keeper)(nil)
)

// conflicts is how often a write is tried again because somebody was quicker.
// Each of them did what was due, so a second look nearly always finds it done.
const conflicts = 5

// Options say for whom certificates are. Namespace and Service are required.
type Options struct {
	// Namespace of the operator: of the Service and of the Secret.
	Namespace string
	// Service is what clients call. The Secret has its name, followed by -certs.
	Service string
	// Others are Services that serve with the same certificate; Names has theirs,
	// too.
	Others []string
	// APIService that is to believe our authorities, if it leads to the Service;
	// none when empty.
	APIService string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// SecretName is that of the Secret that all replicas share.
func (o Options) SecretName() string { return o.Service + "-certs" }

// Names are those for which the certificate is good, the one that kube-apiserver
// calls first.
func (o Options) Names() []string {
	var names []string
	for _, service := range append([]string{o.Service}, o.Others...) {
		inNamespace := service + "." + o.Namespace
		names = append(names, inNamespace+".svc", inNamespace+".svc.cluster.local", inNamespace, service)
	}
	return append(names, "localhost", "127.0.0.1")
}

// Keeper has the certificate with which to serve, and keeps it valid and
// believed. It works on every replica.
type Keeper struct {
	options     Options
	secrets     coreclient.SecretInterface
	apiServices aggregatorclient.APIServiceInterface
	current     atomic.Pointer[served]

	mu        sync.Mutex // guards listeners
	listeners []dynamiccertificates.Listener
}

// served is what clients see of the material.
type served struct {
	certificate                    *tls.Certificate
	certificatePEM, keyPEM, bundle []byte
}

// NewKeeper makes a keeper without a certificate: see EnsureCertificate.
func NewKeeper(config *rest.Config, options Options) (*Keeper, error) {
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
	return &Keeper{options: options, secrets: core.Secrets(options.Namespace), apiServices: aggregator.APIServices()}, nil
}

// EnsureCertificate returns when there is a certificate, or ctx ends.
func (k *Keeper) EnsureCertificate(ctx context.Context) error {
	failing := false
	for k.current.Load() == nil {
		err := bounded(ctx, k.Refresh)
		if k.current.Load() != nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("get a serving certificate: %w", err)
		}
		if !failing {
			log.FromContext(ctx).WithName("serving").Error(err, "cannot get a serving certificate; it is tried again until it works")
		}
		failing = true
		pause(ctx, failing)
	}
	return nil
}

// Start keeps the certificate until ctx ends.
func (k *Keeper) Start(ctx context.Context) error {
	repeat(ctx, "keep the serving certificate", k.Refresh)
	return nil
}

// NeedLeaderElection says that every replica keeps its certificate.
func (k *Keeper) NeedLeaderElection() bool { return false }

// Refresh looks once: it does what is due to the Secret, makes the APIService
// believe it, then serves it. The latter happens although the former fails.
func (k *Keeper) Refresh(ctx context.Context) error {
	agreed, err := k.agree(ctx)
	if err != nil {
		return err
	}
	err = k.publish(ctx, agreed.bundle)
	k.serve(agreed)
	return err
}

// agree returns what the Secret holds after all that was due was done to it, by
// us or by another replica.
func (k *Keeper) agree(ctx context.Context) (*served, error) {
	for attempt := 1; ; attempt++ {
		agreed, err := k.tryAgree(ctx)
		if err == nil || attempt > conflicts || !isOvertaken(err) {
			return agreed, err
		}
	}
}

// isOvertaken tells whether somebody else has written between read and write.
func isOvertaken(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

func (k *Keeper) tryAgree(ctx context.Context) (*served, error) {
	secret, err := k.secrets.Get(ctx, k.options.SecretName(), metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return nil, fmt.Errorf("read Secret %s: %w", k.options.SecretName(), err)
	}
	if missing {
		secret = k.newSecret()
	}
	next, due, err := renew(k.options.Now(), readMaterial(secret.Data), k.options.Names())
	if err != nil {
		return nil, err
	}
	if due.needed() {
		if err := k.store(ctx, secret, next, missing); err != nil {
			return nil, fmt.Errorf("write Secret %s: %w", k.options.SecretName(), err)
		}
		log.FromContext(ctx).WithName("serving").Info("renewed the serving certificate's Secret", "newAuthorityBecause", due.authority,
			"newCertificateBecause", due.certificate, "authoritiesForgotten", due.forgotten)
	}
	return newServed(next)
}

func (k *Keeper) newSecret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.options.Namespace,
			Name:      k.options.SecretName(),
			Labels:    map[string]string{"app.kubernetes.io/name": "connpool", "app.kubernetes.io/managed-by": "connpool"},
		},
		Type: corev1.SecretTypeTLS,
	}
}

func (k *Keeper) store(ctx context.Context, secret *corev1.Secret, next material, missing bool) error {
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	if err := next.write(secret.Data); err != nil {
		return err
	}
	var err error
	if missing {
		_, err = k.secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		_, err = k.secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	return err
}

func newServed(m material) (*served, error) {
	data := map[string][]byte{}
	if err := m.write(data); err != nil {
		return nil, err
	}
	return &served{
		certificate: m.certificate, certificatePEM: data[certificateKey], keyPEM: data[privateKeyKey], bundle: data[authoritiesKey],
	}, nil
}

// publish makes the APIService believe the bundle. One that is missing, or leads
// to somebody else's Service, is none of our business.
func (k *Keeper) publish(ctx context.Context, bundle []byte) error {
	if k.options.APIService == "" {
		return nil
	}
	found, err := k.apiServices.Get(ctx, k.options.APIService, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read APIService %s: %w", k.options.APIService, err)
	}
	if !k.leadsToUs(found.Spec.Service) || bytes.Equal(found.Spec.CABundle, bundle) {
		return nil
	}
	// An APIService that verifies nothing may have no bundle.
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"caBundle": bundle, "insecureSkipTLSVerify": nil}})
	if err != nil {
		return err
	}
	if _, err := k.apiServices.Patch(ctx, found.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("write the caBundle of APIService %s: %w", found.Name, err)
	}
	log.FromContext(ctx).WithName("serving").Info("wrote the caBundle of the APIService", "name", found.Name)
	return nil
}

func (k *Keeper) leadsToUs(service *apiregistrationv1.ServiceReference) bool {
	return service != nil && service.Namespace == k.options.Namespace && service.Name == k.options.Service
}

// serve makes the material the one that new connections get.
func (k *Keeper) serve(next *served) {
	before := k.current.Swap(next)
	if before != nil && bytes.Equal(before.certificatePEM, next.certificatePEM) && bytes.Equal(before.keyPEM, next.keyPEM) {
		return
	}
	k.mu.Lock()
	listeners := slices.Clone(k.listeners)
	k.mu.Unlock()
	for _, listener := range listeners {
		listener.Enqueue()
	}
}

// Name says where the certificate is from, for logs.
func (k *Keeper) Name() string { return "secret/" + k.options.Namespace + "/" + k.options.SecretName() }

// CurrentCertKeyContent returns the certificate and its key in PEM; both are nil
// before there is one.
func (k *Keeper) CurrentCertKeyContent() (certificate, key []byte) {
	current := k.current.Load()
	if current == nil {
		return nil, nil
	}
	return current.certificatePEM, current.keyPEM
}

// CABundle returns the authorities to believe, in PEM; nil before there are any.
func (k *Keeper) CABundle() []byte {
	current := k.current.Load()
	if current == nil {
		return nil
	}
	return current.bundle
}

// GetCertificate is for a tls.Config. It fails before there is a certificate.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	current := k.current.Load()
	if current == nil {
		return nil, errors.New("there is no serving certificate yet")
	}
	return current.certificate, nil
}

// AddListener adds somebody to tell when the certificate has changed.
func (k *Keeper) AddListener(listener dynamiccertificates.Listener) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listeners = append(k.listeners, listener)
}
