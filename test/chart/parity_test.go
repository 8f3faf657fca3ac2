package chart_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The differences that are meant between the chart and the kustomizations.
var (
	// notInChart: Helm makes the namespace with --create-namespace, and a chart that
	// had it would delete it with everything in it.
	notInChart = []string{"Namespace  connpool-system"}
	// ownLabels say which tool manages the object.
	ownLabels = []string{"app.kubernetes.io/managed-by", "helm.sh/chart"}
	// ownAnnotations only Helm knows.
	ownAnnotations = []string{"helm.sh/resource-policy"}
)

func TestTheChartRendersTheObjectsOfTheKustomization(t *testing.T) {
	tests := map[string]struct {
		kustomization string
		values        []string
	}{
		"certificates of its own":        {"../../config/default", nil},
		"certificates from cert-manager": {"testdata/cert-manager", []string{"--set=certManager.enabled=true"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			want := kustomize(t, tc.kustomization)
			for _, key := range notInChart {
				delete(want, key)
			}
			compare(t, want, withoutTests(render(t, tc.values...)))
		})
	}
}

// withoutTests leaves out what only helm test makes.
func withoutTests(all objects) objects {
	maps.DeleteFunc(all, func(_ string, object *unstructured.Unstructured) bool {
		return object.GetAnnotations()["helm.sh/hook"] == "test"
	})
	return all
}

func compare(t *testing.T, want, got objects) {
	t.Helper()
	if len(want) < 20 {
		t.Errorf("only %d objects to compare", len(want))
	}
	for _, all := range []objects{want, got} {
		for _, object := range all {
			strip(object)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("objects (-kustomize +chart):\n%s", diff)
	}
	for key, object := range want {
		if got[key] == nil {
			continue // said above
		}
		if diff := cmp.Diff(object.Object, got[key].Object); diff != "" {
			t.Errorf("%s (-kustomize +chart):\n%s", key, diff)
		}
	}
}

// strip removes the differences that are meant, and empty maps of annotations.
func strip(object *unstructured.Unstructured) {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	for _, name := range ownLabels {
		delete(labels, name)
	}
	for _, name := range ownAnnotations {
		delete(annotations, name)
	}
	object.SetLabels(labels)
	object.SetAnnotations(annotations)
}
