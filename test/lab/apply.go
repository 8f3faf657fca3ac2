package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// namespace is that of the samples: the one that kubectl uses by default.
const namespace = "default"

// applySamples does what `kubectl apply --server-side -f samples` does.
func (f folder) applySamples(ctx context.Context, api client.Client) error {
	objects, err := f.readSamples()
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GetNamespace() == "" && object.GetKind() != "Namespace" {
			object.SetNamespace(namespace)
		}
		configuration := client.ApplyConfigurationFromUnstructured(object)
		if err := api.Apply(ctx, configuration, client.FieldOwner("lab"), client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

func (f folder) readSamples() ([]*unstructured.Unstructured, error) {
	paths, err := filepath.Glob(filepath.Join(f.samples(), "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, path := range paths {
		objects, err := readObjects(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		all = slices.Concat(all, objects)
	}
	return all, nil
}

func readObjects(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}
