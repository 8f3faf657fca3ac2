package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener counts how often it is told of a change.
type listener struct{ told int }

func (l *listener) Enqueue() { l.told++ }

// newRotator makes a rotator that talks to an API server in memory.
func newRotator(api *fake.Clientset, now func() time.Time) *CertRotator {
	options := Options{Namespace: "connpool-system", Service: "connpool-live", Now: now}
	return &CertRotator{options: options, secrets: api.CoreV1().Secrets(options.Namespace)}
}

// down is the reaction of an API server that is down.
func down(clienttesting.Action) (bool, runtime.Object, error) {
	return true, nil, errors.New("connection refused")
}

func TestReplicasServeTheSameCertificate(t *testing.T) {
	api := fake.NewClientset()
	now := epoch
	first, second := newRotator(api, func() time.Time { return now }), newRotator(api, func() time.Time { return now })
	watcher := &listener{}
	second.AddListener(watcher)
	for _, rotator := range []*CertRotator{first, second} {
		if certificate, key := rotator.CurrentCertKeyContent(); certificate != nil || key != nil {
			t.Error("a certificate from nowhere")
		}
		if err := rotator.EnsureCertificate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expectSame(t, first, second)

	now = epoch.Add(61 * day)
	refresh(t, first)
	refresh(t, second)
	refresh(t, second)
	expectSame(t, first, second)
	if watcher.told != 2 {
		t.Errorf("told of %d changes, want 2", watcher.told)
	}
	if names := first.Name(); !strings.Contains(names, "connpool-system/connpool-live-certs") {
		t.Errorf("named %s", names)
	}
}

func refresh(t *testing.T, rotator *CertRotator) {
	t.Helper()
	if err := rotator.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// expectSame expects two replicas to serve the same certificate.
func expectSame(t *testing.T, a, b *CertRotator) {
	t.Helper()
	certA, keyA := a.CurrentCertKeyContent()
	certB, keyB := b.CurrentCertKeyContent()
	if !bytes.Equal(certA, certB) || !bytes.Equal(keyA, keyB) {
		t.Error("two replicas differ")
	}
	if _, err := tls.X509KeyPair(certA, keyA); err != nil {
		t.Error(err)
	}
}

// overtaken is an API in which another replica writes between the read and the first
// write of this one.
type overtaken struct {
	coreclient.SecretInterface
	race func()
}

func (o *overtaken) Create(ctx context.Context, secret *corev1.Secret, options metav1.CreateOptions) (*corev1.Secret, error) {
	if err := o.lose(); err != nil {
		return nil, err
	}
	return o.SecretInterface.Create(ctx, secret, options)
}

func (o *overtaken) Update(ctx context.Context, secret *corev1.Secret, options metav1.UpdateOptions) (*corev1.Secret, error) {
	if err := o.lose(); err != nil {
		return nil, err
	}
	return o.SecretInterface.Update(ctx, secret, options)
}

func (o *overtaken) lose() error {
	if o.race == nil {
		return nil
	}
	o.race()
	o.race = nil
	return apierrors.NewConflict(corev1.Resource("secrets"), "connpool-live-certs", nil)
}

func TestTheSlowerReplicaTakesWhatTheQuickerMade(t *testing.T) {
	api := fake.NewClientset()
	now := epoch
	quick, slow := newRotator(api, func() time.Time { return now }), newRotator(api, func() time.Time { return now })
	for range 3 { // the first creates, the others update
		slow.secrets = &overtaken{quick.secrets, func() { refresh(t, quick) }}
		refresh(t, slow)
		expectSame(t, quick, slow)
		now = now.Add(61 * day)
	}
}

func TestAnUnreachableAPIServerIsWaitedForAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		failures := 5
		api.PrependReactor("get", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
			failures--
			if failures < 0 {
				return false, nil, nil
			}
			return down(action)
		})
		logged := 0
		if err := newRotator(api, time.Now).EnsureCertificate(counting(t.Context(), &logged)); err != nil {
			t.Fatal(err)
		}
		if logged != 2 { // the failure, and that the Secret was written
			t.Errorf("%d lines are logged, want 2", logged)
		}
	})
}

func TestTheStartEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		api.PrependReactor("get", "secrets", down)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := newRotator(api, time.Now).EnsureCertificate(ctx); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v, want the cause", err)
		}
	})
}

func TestWithoutAnAPIServerWhatIsInMemoryIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		rotator := newRotator(api, time.Now)
		if err := rotator.EnsureCertificate(t.Context()); err != nil {
			t.Fatal(err)
		}
		before, _ := rotator.CurrentCertKeyContent()
		api.PrependReactor("*", "secrets", down)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		logged := 0
		if err := rotator.Start(counting(ctx, &logged)); err != nil {
			t.Error(err)
		}
		if after, _ := rotator.CurrentCertKeyContent(); !bytes.Equal(before, after) {
			t.Error("the certificate has changed")
		}
		if logged != 1 {
			t.Errorf("%d lines are logged in an hour, want 1", logged)
		}
	})
}

func TestTheCertificateIsRenewedWhileTheRotatorRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		offset := time.Duration(0)
		rotator := newRotator(api, func() time.Time { return time.Now().Add(offset) })
		refresh(t, rotator)
		before, key := rotator.CurrentCertKeyContent()
		present, err := tls.X509KeyPair(before, key)
		if err != nil {
			t.Fatal(err)
		}
		offset = time.Until(renewalTime(present.Leaf)) - time.Hour
		secret, err := api.CoreV1().Secrets("connpool-system").Get(t.Context(), "connpool-live-certs", metav1.GetOptions{})
		if err != nil || secret.Type != corev1.SecretTypeTLS {
			t.Fatalf("Secret of type %s, %v", secret.Type, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if err := rotator.Start(ctx); err != nil {
			t.Error(err)
		}
		if after, _ := rotator.CurrentCertKeyContent(); bytes.Equal(before, after) {
			t.Error("an hour after it was due the certificate is the same")
		}
	})
}

// counting returns a context whose logger counts its lines.
func counting(ctx context.Context, lines *int) context.Context {
	return logr.NewContext(ctx, funcr.New(func(string, string) { *lines++ }, funcr.Options{}))
}

func TestOptionsMustSayWhatIsServed(t *testing.T) {
	if _, err := NewCertRotator(&rest.Config{}, Options{Service: "connpool-live"}); err == nil {
		t.Error("without a namespace there is a rotator")
	}
}

func TestOnlyAnAddressThatOthersReachIsPublished(t *testing.T) {
	for address, good := range map[string]bool{
		"10.1.2.3": true, "fd00::7": true, "127.0.0.1": false, "169.254.1.1": false, "::": false, "": false, "web-1": false,
	} {
		endpoint := Endpoint{Namespace: "connpool-system", Service: "connpool-live", Address: address, Port: 9443}
		if _, err := NewPublisher(&rest.Config{}, endpoint); (err == nil) != good {
			t.Errorf("%q: error %v, want good %t", address, err, good)
		}
	}
}
