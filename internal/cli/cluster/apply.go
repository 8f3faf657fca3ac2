package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/api/v1alpha1"
)

// fieldManager is who owns the fields that the plugin applies.
const fieldManager = "kubectl-connpool"

// ApplyOptions change what Apply does.
type ApplyOptions struct {
	// DryRun asks the server what would be, and stores nothing.
	DryRun bool
	// Force takes fields over that others own.
	Force bool
}

// Apply applies an object by server-side apply, and returns what it is now.
func (p Plain) Apply(ctx context.Context, object runtime.Object, options ApplyOptions) (map[string]any, error) {
	path, err := pathOf(object)
	if err != nil {
		return nil, err
	}
	query := url.Values{"fieldManager": {fieldManager}, "fieldValidation": {"Strict"}}
	if options.DryRun {
		query.Set("dryRun", "All")
	}
	if options.Force {
		query.Set("force", "true")
	}
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	var applied map[string]any
	request := plainRequest{http.MethodPatch, path + "?" + query.Encode(), "application/apply-patch+yaml", body}
	return applied, p.do(ctx, request, &applied)
}

// GetLike reads the object that has the kind, namespace and name of the given one.
func (p Plain) GetLike(ctx context.Context, object runtime.Object) (map[string]any, error) {
	path, err := pathOf(object)
	if err != nil {
		return nil, err
	}
	var found map[string]any
	return found, p.Get(ctx, path, &found)
}

// plurals are the resources of the kinds that the plugin applies.
var plurals = map[string]string{"Secret": "secrets", "ConnectionTarget": Targets, "ConnectionPool": Pools}

// pathOf returns where an object is. It has a namespace.
func pathOf(object runtime.Object) (string, error) {
	about, err := meta.Accessor(object)
	if err != nil {
		return "", err
	}
	kind := object.GetObjectKind().GroupVersionKind()
	base := "/api/v1"
	if kind.Group == v1alpha1.GroupName {
		base = "/apis/" + v1alpha1.GroupVersion.String()
	}
	return fmt.Sprintf("%s/namespaces/%s/%s/%s", base, about.GetNamespace(), plurals[kind.Kind], about.GetName()), nil
}
