package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
)

const certificates = controlplane.APIService + "-certs"

// F38: the Secret with the certificates is deleted, spoiled and rotated by hand while a
// standby looks, too. Requests go on through kube-apiserver, and to the operator itself
// over new connections that trust the published bundle only.
func TestNoRequestFailsWhateverHappensToTheCertificates(t *testing.T) {
	ownPlane(t)
	startStandby(t)
	load := newLoad(t)
	eventually(t, 30*time.Second, "the live API answers both ways", func() (bool, string) {
		err := errors.Join(load.throughTheServer(t.Context()), load.directly(t.Context()))
		return err == nil, errorText(err)
	})
	stop := load.start(t)
	accidents := slices.Repeat([]string{"deleted", "spoiled"}, 5)
	for _, name := range append(accidents, "emptied but for the authority") {
		before := load.count.Load()
		switch name {
		case "spoiled":
			patchCertificates(t, `{"stringData":{"ca.crt":"x","ca.key":"y","tls.crt":"z","tls.key":"{}"}}`)
		case "emptied but for the authority": // how an administrator asks for a new certificate
			patchCertificates(t, `{"data":{"tls.crt":"","tls.key":""}}`)
		default:
			remove(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: controlplane.APINamespace, Name: certificates}})
		}
		eventually(t, time.Minute, "requests, and a Secret, after it was "+name, func() (bool, string) {
			var secret corev1.Secret
			err := env.client.Get(t.Context(), client.ObjectKey{Namespace: controlplane.APINamespace, Name: certificates}, &secret)
			count := load.count.Load()
			return err == nil && count >= before+50, fmt.Sprint(count-before, err)
		})
	}
	stop()
	t.Logf("%d requests, %d failed", load.count.Load(), load.failed.Load())
}

// load is requests to the live API.
type load struct {
	through       *http.Client
	list          string // the URL through kube-apiserver
	count, failed atomic.Int64
}

func newLoad(t *testing.T) *load {
	t.Helper()
	through, err := rest.HTTPClientFor(env.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.CloseIdleConnections)
	return &load{through: through, list: env.config.Host + "/apis/" + live.GroupName + "/v1alpha1/connections"}
}

// start makes requests, one after the other in each of the two ways, until stop is called.
func (l *load) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var requests sync.WaitGroup
	for name, request := range map[string]func(context.Context) error{"through kube-apiserver": l.throughTheServer, "directly": l.directly} {
		requests.Go(func() {
			for ctx.Err() == nil {
				err := request(ctx)
				l.count.Add(1)
				if err != nil && ctx.Err() == nil {
					l.failed.Add(1)
					t.Errorf("request %d, %s: %v", l.count.Load(), name, err)
				}
			}
		})
	}
	return func() {
		cancel()
		requests.Wait()
	}
}

func (l *load) throughTheServer(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.list, http.NoBody)
	if err != nil {
		return err
	}
	response, err := l.through.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// directly opens a new connection that trusts the published bundle.
func (l *load) directly(ctx context.Context) error {
	service := &unstructured.Unstructured{}
	service.SetAPIVersion("apiregistration.k8s.io/v1")
	service.SetKind("APIService")
	if err := env.client.Get(ctx, client.ObjectKey{Name: "v1alpha1." + live.GroupName}, service); err != nil {
		return err
	}
	text, _, _ := unstructured.NestedString(service.Object, "spec", "caBundle")
	bundle, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	dialer := &tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: controlplane.APIService + "." + controlplane.APINamespace + ".svc",
	}}
	connection, err := dialer.DialContext(ctx, "tcp", env.live)
	if err != nil {
		return err
	}
	return connection.Close()
}

func patchCertificates(t *testing.T, patch string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: controlplane.APINamespace, Name: certificates}}
	if err := env.client.Patch(t.Context(), secret, client.RawPatch(types.StrategicMergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// startStandby starts another operator beside that of ownPlane, which leads.
func startStandby(t *testing.T) {
	t.Helper()
	leader := env.live
	env.live = freeAddress()
	startOwnOperator(t, adminKubeconfig(t), "--replica-name=standby")
	env.live = leader
}
