package controlplane

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const tokenSeconds = 30 * 24 * 3600

// User returns the configuration of a user of the cluster. The user authenticates with
// a certificate, and may do what RBAC allows.
func (a *Access) User(name string, groups ...string) (*rest.Config, error) {
	return a.keys.config(a.Config.Host, name, groups...)
}

// ServiceAccount returns the configuration of a ServiceAccount, and creates the
// ServiceAccount if it is missing. It authenticates with a token, as workloads do. The
// token lasts a month, longer than any lab.
func (a *Access) ServiceAccount(ctx context.Context, namespace, name string) (*rest.Config, error) {
	admin, err := kubernetes.NewForConfig(a.Config)
	if err != nil {
		return nil, err
	}
	accounts := admin.CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create ServiceAccount %s/%s: %w", namespace, name, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenSeconds))}}
	token, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(a.Config)
	config.BearerToken = token.Status.Token
	config.QPS = a.Config.QPS
	return config, nil
}

// FrontProxy returns a client certificate and its key, in PEM, from the authority
// of kube-apiserver's front proxy. Only FrontProxyName may speak for users with
// one.
func (a *Access) FrontProxy(name string) (cert, key []byte, err error) {
	return a.keys.front.issue(clientCertificate(name))
}
