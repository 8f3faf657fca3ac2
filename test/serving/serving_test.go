// The live API's certificate and endpoints on a real API server, with exactly the
// rights that config/default gives to the operator.
package serving_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/internal/serving"
	"github.com/connpool/connpool/test/controlplane"
)

const (
	space      = "connpool-system"
	service    = "connpool-live"
	apiService = "v1alpha1.live.connpool.dev"
	day        = 24 * time.Hour
)

// env is one API server, its administrator, and the operator's own identity.
var env struct {
	admin    client.Client
	operator *rest.Config
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	plane, err := controlplane.Start(context.Background(), controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a control plane:", err)
		return 1
	}
	defer plane.Stop()
	if err := install(context.Background(), plane); err != nil {
		fmt.Fprintln(os.Stderr, "install the manifests:", err)
		return 1
	}
	return m.Run()
}

// install applies what config/default says about rights and about the live API.
func install(ctx context.Context, plane *controlplane.ControlPlane) (err error) {
	if err := apiregistrationv1.AddToScheme(scheme.Scheme); err != nil {
		return err
	}
	if env.admin, err = client.New(plane.Config, client.Options{Scheme: scheme.Scheme}); err != nil {
		return err
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // namespaces before what is in them
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), "../../config/default")
	if err != nil {
		return err
	}
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return err
		}
		if err := installOne(ctx, text); err != nil {
			return err
		}
	}
	env.operator, err = plane.ServiceAccount(ctx, space, "connpool-manager")
	return err
}

func installOne(ctx context.Context, text []byte) error {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, object); err != nil {
		return err
	}
	switch object.GetKind() {
	case "CustomResourceDefinition", "Deployment", "PodDisruptionBudget", "NetworkPolicy":
		return nil // nothing runs here
	}
	if err := env.admin.Create(ctx, object); err != nil {
		return fmt.Errorf("create %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// clock shows a time that moves only when Advance is called.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func newRotator(t *testing.T, c *clock) *serving.CertRotator {
	t.Helper()
	rotator, err := serving.NewCertRotator(env.operator, serving.Options{
		Namespace: space, Service: service, APIService: apiService, Now: c.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return rotator
}

func refresh(t *testing.T, rotators ...*serving.CertRotator) {
	t.Helper()
	for _, rotator := range rotators {
		if err := rotator.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// forgetSecret lets a test begin with nothing.
func forgetSecret(t *testing.T) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: service + "-certs"}}
	if err := env.admin.Delete(t.Context(), secret); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}

// authorities returns the bundle that the Secret holds.
func authorities(t *testing.T) []byte {
	t.Helper()
	var secret corev1.Secret
	if err := env.admin.Get(t.Context(), client.ObjectKey{Namespace: space, Name: service + "-certs"}, &secret); err != nil {
		t.Fatal(err)
	}
	return secret.Data["ca.crt"]
}

// published returns the bundle with which kube-apiserver verifies the live API.
func published(t *testing.T) []byte {
	t.Helper()
	var found apiregistrationv1.APIService
	if err := env.admin.Get(t.Context(), client.ObjectKey{Name: apiService}, &found); err != nil {
		t.Fatal(err)
	}
	return found.Spec.CABundle
}

func TestReplicasThatStartAtOnceAgree(t *testing.T) {
	forgetSecret(t)
	c := newClock()
	rotators := make([]*serving.CertRotator, 8)
	var all sync.WaitGroup
	for i := range rotators {
		rotators[i] = newRotator(t, c)
		all.Go(func() {
			if err := rotators[i].EnsureCertificate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want, _ := rotators[0].CurrentCertKeyContent()
	for i, rotator := range rotators {
		if got, _ := rotator.CurrentCertKeyContent(); !bytes.Equal(got, want) {
			t.Errorf("replica %d serves another certificate than replica 0", i)
		}
	}
	if !bytes.Equal(published(t), authorities(t)) {
		t.Error("kube-apiserver trusts another bundle")
	}
}

func TestReplicasThatRenewAtOnceAgree(t *testing.T) {
	forgetSecret(t)
	c := newClock()
	rotators := []*serving.CertRotator{newRotator(t, c), newRotator(t, c), newRotator(t, c)}
	refresh(t, rotators...)
	before, _ := rotators[0].CurrentCertKeyContent()
	c.Advance(61 * day)
	var all sync.WaitGroup
	for _, rotator := range rotators {
		all.Go(func() {
			if err := rotator.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want, _ := rotators[0].CurrentCertKeyContent()
	if bytes.Equal(before, want) {
		t.Error("nothing was renewed")
	}
	for i, rotator := range rotators {
		if got, _ := rotator.CurrentCertKeyContent(); !bytes.Equal(got, want) {
			t.Errorf("replica %d serves another certificate than replica 0", i)
		}
	}
}

// serve answers over TLS as the API server library does, and returns the address. The
// library is told of every change.
func serve(t *testing.T, rotator *serving.CertRotator) string {
	t.Helper()
	controller := dynamiccertificates.NewDynamicServingCertificateController(
		&tls.Config{MinVersion: tls.VersionTLS12}, nil, rotator, nil, nil)
	rotator.AddListener(controller)
	if err := controller.RunOnce(); err != nil {
		t.Fatal(err)
	}
	rotator.AddListener(now{controller})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: controller.GetConfigForClient},
		ReadHeaderTimeout: time.Minute,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

// now reloads the certificate at once; the controller's own worker does it a little
// later.
type now struct {
	controller *dynamiccertificates.DynamicServingCertificateController
}

func (n now) Enqueue() { _ = n.controller.RunOnce() }

// call opens a new connection as kube-apiserver does: by the Service's name, and
// trusting the bundle only.
func call(ctx context.Context, address string, bundle []byte, c *clock) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: service + "." + space + ".svc", Time: c.Now,
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address, http.NoBody)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// F38: certificates and authority are rotated under two replicas, one of which
// learns of every change late. The clients that call them learn of it late, too.
func TestNoClientNoticesARotation(t *testing.T) {
	const step = 15 * time.Hour
	forgetSecret(t)
	c := newClock()
	prompt, late := newRotator(t, c), newRotator(t, c)
	refresh(t, prompt, late)
	c.Advance((9*365 - 30) * day) // the authority's last year begins in 30 days
	refresh(t, prompt, late)
	addresses := []string{serve(t, prompt), serve(t, late)}

	firstBundle, certificates, calls := published(t), map[string]bool{}, 0
	for range int(200 * day / step) {
		bundle := published(t)
		c.Advance(step)
		for _, rotator := range []*serving.CertRotator{prompt, late} {
			for _, address := range addresses {
				calls++
				if err := call(t.Context(), address, bundle, c); err != nil {
					t.Fatalf("call %d: %v", calls, err)
				}
			}
			refresh(t, rotator)
			certificate, _ := rotator.CurrentCertKeyContent()
			certificates[string(certificate)] = true
		}
	}
	lastBundle := published(t)
	if len(certificates) < 4 || bytes.Equal(firstBundle, lastBundle) || bytes.Contains(lastBundle, firstBundle) {
		t.Errorf("after %d calls: %d certificates, and the authority has not been replaced", calls, len(certificates))
	}
	t.Logf("%d calls, 0 failed, with %d certificates of two authorities", calls, len(certificates))
}

// This is how an administrator asks for a new certificate.
func TestAnEmptiedCertificateIsIssuedAgainByTheSameAuthority(t *testing.T) {
	rotator := newRotator(t, newClock())
	forgetSecret(t)
	refresh(t, rotator)
	before, _ := rotator.CurrentCertKeyContent()
	bundle := authorities(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: service + "-certs"}}
	patch := client.RawPatch(types.StrategicMergePatchType, []byte(`{"data":{"tls.crt":"","tls.key":""}}`))
	if err := env.admin.Patch(t.Context(), secret, patch); err != nil {
		t.Fatal(err)
	}
	refresh(t, rotator)
	if after, _ := rotator.CurrentCertKeyContent(); bytes.Equal(before, after) || !bytes.Equal(bundle, authorities(t)) {
		t.Error("the certificate is the same, or the authority is not")
	}
}

// running runs replicas until the test ends.
func running(t *testing.T) []*serving.CertRotator {
	t.Helper()
	forgetSecret(t)
	c := newClock()
	replicas := []*serving.CertRotator{newRotator(t, c), newRotator(t, c)}
	refresh(t, replicas...)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, replica := range replicas {
		all.Go(func() { _ = replica.Start(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	return replicas
}

// emptySecret is how an administrator has all made anew, for example if a key has leaked.
func emptySecret(t *testing.T) {
	t.Helper()
	patchSecret(t, `{"data":{"ca.crt":"","ca.key":"","tls.crt":"","tls.key":""}}`)
}

func patchSecret(t *testing.T, data string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: service + "-certs"}}
	if err := env.admin.Patch(t.Context(), secret, client.RawPatch(types.StrategicMergePatchType, []byte(data))); err != nil {
		t.Fatal(err)
	}
}

// Whichever replica looks first issues a new authority, and the others must not go on
// serving what nothing trusts any more until they look, too.
func TestAnEmptiedSecretIsReplacedInAllReplicasAtOnce(t *testing.T) {
	replicas := running(t)
	for range 3 {
		before, _ := replicas[0].CurrentCertKeyContent()
		emptied := time.Now()
		emptySecret(t)
		eventually(t, "all replicas serve what is trusted", func(context.Context) error {
			first, _ := replicas[0].CurrentCertKeyContent()
			second, _ := replicas[1].CurrentCertKeyContent()
			if bytes.Equal(first, before) || !bytes.Equal(first, second) {
				return errors.New("they serve other certificates")
			}
			return nil
		})
		t.Logf("after %s", time.Since(emptied))
		if !bytes.Equal(published(t), authorities(t)) {
			t.Error("kube-apiserver trusts another bundle")
		}
	}
}

// A Secret that a tool has deleted or spoiled was not meant to be made anew: what the
// replicas serve stays trusted, so that no request fails.
func TestASecretThatIsDeletedOrSpoiledIsRestored(t *testing.T) {
	replicas := running(t)
	for name, spoil := range map[string]func(){
		"deleted":            func() { forgetSecret(t) },
		"garbage":            func() { patchSecret(t, `{"stringData":{"ca.crt":"x","ca.key":"y","tls.crt":"z","tls.key":"{}"}}`) },
		"a certificate only": func() { patchSecret(t, `{"stringData":{"tls.crt":"-----BEGIN CERTIFICATE-----"}}`) },
		"a foreign key":      func() { patchSecret(t, `{"stringData":{"ca.key":"-----BEGIN EC PRIVATE KEY-----"}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := replicas[0].CurrentCertKeyContent()
			bundle, start := authorities(t), time.Now()
			spoil()
			eventually(t, "the Secret is as it was", func(ctx context.Context) error {
				var secret corev1.Secret
				err := env.admin.Get(ctx, client.ObjectKey{Namespace: space, Name: service + "-certs"}, &secret)
				if err == nil && (!bytes.Equal(secret.Data["ca.crt"], bundle) || !bytes.Equal(secret.Data["tls.crt"], before)) {
					err = errors.New("it holds something else")
				}
				return err
			})
			t.Logf("after %s", time.Since(start))
			for i, replica := range replicas {
				if after, _ := replica.CurrentCertKeyContent(); !bytes.Equal(after, before) {
					t.Errorf("replica %d serves another certificate", i)
				}
			}
			if !bytes.Equal(published(t), bundle) {
				t.Error("kube-apiserver trusts another bundle")
			}
		})
	}
}

// A GitOps tool may write the APIService as it is in Git, without the bundle.
func TestABundleThatAToolOverwritesIsWrittenAgainAtOnce(t *testing.T) {
	running(t)
	for range 3 {
		start := time.Now()
		changeAPIService(t, func(spec *apiregistrationv1.APIServiceSpec) { spec.CABundle = nil })
		eventually(t, "kube-apiserver trusts the authorities", func(context.Context) error {
			if !bytes.Equal(published(t), authorities(t)) {
				return errors.New("the bundle is another one")
			}
			return nil
		})
		t.Logf("after %s", time.Since(start))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	}
}

func TestABundleThatWasRemovedIsWrittenAgain(t *testing.T) {
	rotator := newRotator(t, newClock())
	forgetSecret(t)
	refresh(t, rotator)
	for name, edit := range map[string]func(*apiregistrationv1.APIServiceSpec){
		"emptied":                 func(spec *apiregistrationv1.APIServiceSpec) { spec.CABundle = nil },
		"emptied, and unverified": func(spec *apiregistrationv1.APIServiceSpec) { spec.CABundle, spec.InsecureSkipTLSVerify = nil, true },
	} {
		t.Run(name, func(t *testing.T) {
			changeAPIService(t, edit)
			refresh(t, rotator)
			if !bytes.Equal(published(t), authorities(t)) {
				t.Error("kube-apiserver trusts another bundle")
			}
		})
	}
}

func changeAPIService(t *testing.T, edit func(*apiregistrationv1.APIServiceSpec)) {
	t.Helper()
	// The availability controller may write the status at the same time.
	eventually(t, "the APIService is changed", func(ctx context.Context) error {
		var found apiregistrationv1.APIService
		if err := env.admin.Get(ctx, client.ObjectKey{Name: apiService}, &found); err != nil {
			return err
		}
		edit(&found.Spec)
		return env.admin.Update(ctx, &found)
	})
}

func TestAnAPIServiceOfAnotherServiceIsLeftAlone(t *testing.T) {
	rotator := newRotator(t, newClock())
	refresh(t, rotator)
	changeAPIService(t, func(spec *apiregistrationv1.APIServiceSpec) { spec.Service.Name, spec.CABundle = "other", nil })
	refresh(t, rotator)
	if found := published(t); len(found) > 0 {
		t.Errorf("a bundle was written: %s", found)
	}
	changeAPIService(t, func(spec *apiregistrationv1.APIServiceSpec) { spec.Service.Name = service })
	refresh(t, rotator)
	if len(published(t)) == 0 {
		t.Error("no bundle was written when it was ours again")
	}
}

// publish starts a replica's publisher; stop returns when it has ended.
func publish(t *testing.T, address string) (stop func()) {
	t.Helper()
	publisher, err := serving.NewPublisher(env.operator, serving.Endpoint{
		Namespace: space, Service: service, Address: address, Port: 9443,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- publisher.Start(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func endpoint(ctx context.Context) (*discoveryv1.EndpointSlice, error) {
	var found discoveryv1.EndpointSlice
	err := env.admin.Get(ctx, client.ObjectKey{Namespace: space, Name: service + "-leader"}, &found)
	return &found, err
}

func leadsTo(t *testing.T, address string) {
	t.Helper()
	eventually(t, "the Service leads to "+address, func(ctx context.Context) error {
		found, err := endpoint(ctx)
		if err == nil && found.Endpoints[0].Addresses[0] != address {
			err = fmt.Errorf("it leads to %v", found.Endpoints)
		}
		return err
	})
}

func eventually(t *testing.T, what string, try func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v; last: %v", what, err, last)
	}
}

func TestTheServiceLeadsToTheLeader(t *testing.T) {
	stopFirst := publish(t, "10.1.0.1")
	leadsTo(t, "10.1.0.1")
	found, err := endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found.Labels[discoveryv1.LabelServiceName] != service || found.Labels[discoveryv1.LabelManagedBy] != "connpool.dev" {
		t.Errorf("labels %v", found.Labels)
	}
	if ready := found.Endpoints[0].Conditions.Ready; ready == nil || !*ready {
		t.Error("the endpoint is not ready")
	}
	stopSecond := publish(t, "10.1.0.2")
	leadsTo(t, "10.1.0.2")
	stopFirst() // late, and no longer its own
	leadsTo(t, "10.1.0.2")
	stopThird := publish(t, "fd00::3") // another kind of address
	leadsTo(t, "fd00::3")
	stopSecond()
	leadsTo(t, "fd00::3")
	stopThird()
	if _, err := endpoint(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("the last one has left something behind: %v", err)
	}
}
