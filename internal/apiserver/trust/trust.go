// Package trust reads from kube-apiserver which authorities may certify clients and its
// front proxy, and follows changes.
//
//	clients, front, err := trust.Read(ctx, client)
//
// All is known when Read returns. The library's own providers know nothing until their
// watch has begun, after the first requests were answered: for up to seconds after a
// start, kube-apiserver and every client with a certificate would be told that they are
// unauthorized, which programs do not try again.
package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

// configMap names the ConfigMap that holds the authorities of the aggregator and of
// clients with certificates. Every kube-apiserver keeps it in kube-system.
const configMap = "extension-apiserver-authentication"

// errOpenProxy refuses a cluster in which any client certificate of the front
// proxy's authority could speak for any user.
var errOpenProxy = errors.New("kube-apiserver runs without --requestheader-allowed-names: " +
	"any certificate of its --requestheader-client-ca-file could claim to be any user; name the front proxy there")

// Read returns the authorities of clients, and who may speak for users. The headers are
// followed until ctx ends, the authorities while the server runs to which they are given.
func Read(ctx context.Context, client kubernetes.Interface) (
	dynamiccertificates.CAContentProvider, *authenticatorfactory.RequestHeaderConfig, error,
) {
	now, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, configMap, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read ConfigMap %s in kube-system: %w", configMap, err)
	}
	clientCA, clientErr := newAuthority("client-ca", "client-ca-file", client, now)
	proxyCA, proxyErr := newAuthority("request-header-ca", "requestheader-client-ca-file", client, now)
	if err := errors.Join(clientErr, proxyErr); err != nil {
		return nil, nil, fmt.Errorf("find the authorities of the clients and of the front proxy: %w", err)
	}
	headers := headerrequest.NewRequestHeaderAuthRequestController(configMap, metav1.NamespaceSystem, client,
		"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
		"requestheader-extra-headers-prefix", "requestheader-allowed-names")
	if err := headers.RunOnce(ctx); err != nil {
		return nil, nil, fmt.Errorf("read ConfigMap %s in kube-system: %w", configMap, err)
	}
	if len(headers.AllowedClientNames()) == 0 {
		return nil, nil, errOpenProxy
	}
	go headers.Run(ctx, 1)
	return clientCA, &authenticatorfactory.RequestHeaderConfig{
		CAContentProvider:   proxyCA,
		UsernameHeaders:     headerrequest.StringSliceProviderFunc(headers.UsernameHeaders),
		UIDHeaders:          headerrequest.StringSliceProviderFunc(headers.UIDHeaders),
		GroupHeaders:        headerrequest.StringSliceProviderFunc(headers.GroupHeaders),
		ExtraHeaderPrefixes: headerrequest.StringSliceProviderFunc(headers.ExtraHeaderPrefixes),
		AllowedClientNames:  namesProvider(headers.AllowedClientNames),
	}, nil
}

// namesProvider replaces an empty list by one with a name that no certificate has.
// The library would let every certificate of the authority speak for any user if
// the list became empty.
func namesProvider(names func() []string) headerrequest.StringSliceProvider {
	return headerrequest.StringSliceProviderFunc(func() []string {
		if names := names(); len(names) > 0 {
			return names
		}
		return []string{"\x00no certificate"}
	})
}

// authority is what a key of the ConfigMap holds, also before its watch has begun.
type authority struct {
	*dynamiccertificates.ConfigMapCAController

	// first is what the key held when the server started; nil if it was missing.
	first dynamiccertificates.CAContentProvider
}

func newAuthority(purpose, key string, client kubernetes.Interface, now *corev1.ConfigMap) (*authority, error) {
	followed, err := dynamiccertificates.NewDynamicCAFromConfigMapController(purpose, metav1.NamespaceSystem, configMap, key, client)
	if err != nil {
		return nil, err
	}
	a := &authority{ConfigMapCAController: followed}
	if bundle := now.Data[key]; bundle != "" {
		a.first, err = dynamiccertificates.NewStaticCAContent(purpose, []byte(bundle))
	}
	return a, err
}

// CurrentCABundleContent implements dynamiccertificates.CAContentProvider.
func (a *authority) CurrentCABundleContent() []byte {
	if bundle := a.ConfigMapCAController.CurrentCABundleContent(); len(bundle) > 0 || a.first == nil {
		return bundle
	}
	return a.first.CurrentCABundleContent()
}

// VerifyOptions implements dynamiccertificates.CAContentProvider.
func (a *authority) VerifyOptions() (x509.VerifyOptions, bool) {
	if options, ok := a.ConfigMapCAController.VerifyOptions(); ok || a.first == nil {
		return options, ok
	}
	return a.first.VerifyOptions()
}
