package crd

import (
	"encoding/json"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// TestNoFieldInsideAListHasADefault checks the schemas: a merge patch replaces a list as
// a whole, so a default in an item of it differs from what is in Git for ever.
func TestNoFieldInsideAListHasADefault(t *testing.T) {
	for kind, definition := range definitions(t) {
		for _, version := range definition.Spec.Versions {
			checkDefaults(t, kind, *version.Schema.OpenAPIV3Schema, false)
		}
	}
}

func checkDefaults(t *testing.T, path string, schema apiextensionsv1.JSONSchemaProps, inList bool) {
	t.Helper()
	if inList && schema.Default != nil {
		t.Errorf("%s has the default %s: let the operator treat its absence so", path, schema.Default.Raw)
	}
	for name, property := range schema.Properties {
		checkDefaults(t, path+"."+name, property, inList)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		checkDefaults(t, path+"[]", *schema.Items.Schema, true)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		checkDefaults(t, path+"{}", *schema.AdditionalProperties.Schema, inList)
	}
}

// testNoDrift checks that what the API server stores does not differ from the manifest by
// the three-way merge with which kubectl apply, Argo CD and helm compare custom resources.
func testNoDrift(t *testing.T, api client.Client) {
	withoutZone := change{"spec.warming.schedules.0.timeZone": nil}
	manifests := []unstructured.Unstructured{*object(t, scheduledPool, withoutZone)}
	for _, objects := range samples(t) {
		manifests = append(manifests, objects...)
	}
	for _, manifest := range manifests {
		if manifest.GroupVersionKind().Group != v1alpha1.GroupName {
			continue
		}
		stored := manifest.DeepCopy()
		if err := api.Create(t.Context(), stored, client.DryRunAll); err != nil {
			t.Fatal(err)
		}
		inGit, inCluster := encoded(t, &manifest), encoded(t, stored)
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(inGit, inGit, inCluster)
		if err != nil {
			t.Fatal(err)
		}
		if string(patch) != "{}" {
			t.Errorf("a second apply of %s %s changes %s", manifest.GetKind(), manifest.GetName(), patch)
		}
	}
}

func encoded(t *testing.T, object *unstructured.Unstructured) []byte {
	t.Helper()
	content, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
