package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes/fake"
	certutil "k8s.io/client-go/util/cert"
)

// authorityPEM returns the certificate of a new authority.
func authorityPEM(t *testing.T, name string) string {
	t.Helper()
	certificate, _, err := certutil.GenerateSelfSignedCertKey(name, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(certificate)
}

func trusted(data map[string]string, without ...string) *corev1.ConfigMap {
	data = maps.Clone(data)
	for _, key := range without {
		delete(data, key)
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: configMap}, Data: data}
}

func knows(provider dynamiccertificates.CAContentProvider) *x509.CertPool {
	options, _ := provider.VerifyOptions()
	return options.Roots
}

func TestTheAuthoritiesAreKnownBeforeTheFirstRequest(t *testing.T) {
	clients, front := authorityPEM(t, "clients"), authorityPEM(t, "front")
	data := map[string]string{
		"client-ca-file": clients, "requestheader-client-ca-file": front, "requestheader-allowed-names": `["front-proxy"]`,
		"requestheader-username-headers": `["X-Remote-User"]`,
	}
	api := fake.NewClientset(trusted(data))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	clientCA, config, err := Read(ctx, api)
	if err != nil {
		t.Fatal(err)
	}
	if string(clientCA.CurrentCABundleContent()) != clients || knows(clientCA) == nil {
		t.Error("the authority of clients is not known when the server starts")
	}
	if string(config.CAContentProvider.CurrentCABundleContent()) != front || knows(config.CAContentProvider) == nil {
		t.Error("the authority of the front proxy is not known when the server starts")
	}

	// Later, the ConfigMap counts as it is.
	go clientCA.(dynamiccertificates.ControllerRunner).Run(ctx, 1)
	data["client-ca-file"] = authorityPEM(t, "new clients")
	if _, err := api.CoreV1().ConfigMaps(metav1.NamespaceSystem).Update(ctx, trusted(data), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return string(clientCA.CurrentCABundleContent()) == data["client-ca-file"], nil
	})
	if err != nil {
		t.Fatal("a new authority is not noticed")
	}
	if knows(clientCA) == nil {
		t.Error("no client is known any more")
	}
}

func TestAClusterWithoutCertificatesOfClientsIsServed(t *testing.T) {
	data := map[string]string{
		"requestheader-client-ca-file": authorityPEM(t, "front"), "requestheader-allowed-names": `["front-proxy"]`,
		"requestheader-username-headers": `["X-Remote-User"]`,
	}
	clientCA, _, err := Read(t.Context(), fake.NewClientset(trusted(data)))
	if err != nil {
		t.Fatal(err)
	}
	if len(clientCA.CurrentCABundleContent()) != 0 || knows(clientCA) != nil {
		t.Error("some clients are known by an authority that is absent")
	}
}

func TestAFrontProxyWithoutANameIsRefused(t *testing.T) {
	data := map[string]string{
		"client-ca-file": authorityPEM(t, "clients"), "requestheader-client-ca-file": authorityPEM(t, "front"),
		"requestheader-username-headers": `["X-Remote-User"]`,
	}
	if _, _, err := Read(t.Context(), fake.NewClientset(trusted(data))); !errors.Is(err, errOpenProxy) {
		t.Errorf("got %v, want %v", err, errOpenProxy)
	}
}
