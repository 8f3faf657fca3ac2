package chart_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestTheChartHasTheDashboardsOfTheKustomization(t *testing.T) {
	want := kustomize(t, "../../config/grafana")
	got := render(t, "--set=dashboards.enabled=true")
	for key := range render(t) {
		delete(got, key)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("objects (-kustomize +chart):\n%s", diff)
	}
	for key := range want {
		if diff := cmp.Diff(dataOf(want[key]), dataOf(got[key])); diff != "" {
			t.Errorf("%s (-kustomize +chart):\n%s", key, diff)
		}
		if got[key].GetLabels()["grafana_dashboard"] != "1" || want[key].GetLabels()["grafana_dashboard"] != "1" {
			t.Errorf("%s lacks the label by which Grafana's sidecar finds it", key)
		}
	}
}

func dataOf(configMap *unstructured.Unstructured) any { return configMap.Object["data"] }
