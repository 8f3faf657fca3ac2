package gitops

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestArgoCDIsToldOfEveryFieldThatTheOperatorWrites(t *testing.T) {
	argo, err := LoadArgoCD("../../config/argocd")
	if err != nil {
		t.Fatal(err)
	}
	pointers, err := argo.IgnoredPointers("apiregistration.k8s.io_APIService")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/spec/caBundle"}, pointers); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
}

func TestScriptsAreThoseOfTheKindAndMustReturnATable(t *testing.T) {
	argo := &ArgoCD{map[string]string{
		"resource.customizations.health.connpool.dev_ConnectionPool":   `return {status = "Healthy", message = obj.metadata.name}`,
		"resource.customizations.health.connpool.dev_ConnectionTarget": `return "Healthy"`,
	}}
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "connpool.dev/v1alpha1", "kind": "ConnectionPool"}}
	object.SetName("web")
	got, err := argo.Health(object)
	if want := (Health{"Healthy", "web"}); err != nil || got != want {
		t.Errorf("a pool is %v, %v, want %v", got, err, want)
	}
	for _, kind := range []string{"ConnectionTarget", "Other"} {
		object.SetKind(kind)
		if _, err := argo.Health(object); err == nil || !strings.Contains(err.Error(), kind) {
			t.Errorf("a %s has the error %v, want one that names its script", kind, err)
		}
	}
}
