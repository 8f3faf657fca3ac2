package controlplane

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The namespace and the name of the operator's Service, as in its manifests.
const (
	APINamespace = "connpool-system"
	APIService   = "connpool-live"
)

// RegisterAPI tells kube-apiserver that the API of group and version is served on a
// port of this host. The server has to write the authority to trust.
func (a *Access) RegisterAPI(ctx context.Context, group, version string, port int32) error {
	api, err := client.New(a.Config, client.Options{})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: APINamespace}},
		// No kube-proxy routes addresses of Services here, but kube-apiserver dials an
		// external name.
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: APINamespace, Name: APIService},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
		},
		apiService(group, version, port),
	} {
		if err := api.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s: %w", object.GetName(), err)
		}
	}
	// An earlier operator may have had another port.
	patch := fmt.Appendf(nil, `{"spec":{"service":{"port":%d}}}`, port)
	return api.Patch(ctx, apiService(group, version, port), client.RawPatch(types.MergePatchType, patch))
}

func apiService(group, version string, port int32) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1",
		"kind":       "APIService",
		"metadata":   map[string]any{"name": version + "." + group},
		"spec": map[string]any{
			"group":   group,
			"version": version,
			"service": map[string]any{"namespace": APINamespace, "name": APIService, "port": int64(port)},
			// Below the priority of CRDs, so that a plural that both have means the CRD.
			"groupPriorityMinimum": int64(100),
			"versionPriority":      int64(100),
		},
	}}
}
