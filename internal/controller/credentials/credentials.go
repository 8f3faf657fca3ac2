// Package credentials reads the Secrets and ConfigMaps that targets may use: from the
// cache, and what a target refuses also from the API server itself.
package credentials

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Secret returns a Secret; nil if it does not exist or targets may not use it. It may belong
// to a cache: the caller must not change it.
func Secret(ctx context.Context, reader client.Reader, key client.ObjectKey) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if found, err := read(ctx, reader, key, secret); !found {
		return nil, err
	}
	return secret, nil
}

// ConfigMap returns a ConfigMap; nil if it does not exist or targets may not use it. It may
// belong to a cache: the caller must not change it.
func ConfigMap(ctx context.Context, reader client.Reader, key client.ObjectKey) (*corev1.ConfigMap, error) {
	configMap := &corev1.ConfigMap{}
	if found, err := read(ctx, reader, key, configMap); !found {
		return nil, err
	}
	return configMap, nil
}

// read reads an object and reports whether it exists and targets may use it. The cache
// holds labeled objects only. This check does not depend on how the cache is configured.
func read(ctx context.Context, reader client.Reader, key client.ObjectKey, object client.Object) (bool, error) {
	err := reader.Get(ctx, key, object, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read %s: %w", key.Name, err)
	}
	return err == nil && object.GetLabels()[v1alpha1.CredentialsLabel] == v1alpha1.CredentialsLabelValue, nil
}
