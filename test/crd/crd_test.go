// Package crd tests the declarative API as its users meet it. For each rule there is
// an object that breaks it, and the field and the words of the error.
//
// The same cases run twice. TestSchema runs the code of the API server that
// validates custom resources, in this process and within two seconds. It is for
// developers who edit a rule. TestServer asks a real API server, which adds the
// admission of the CRDs, defaults, tables, the scale subresource and server-side
// apply.
package crd

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const bases = "../../config/crd/bases"

// validator returns what is wrong with an object.
type validator func(*testing.T, *unstructured.Unstructured) []metav1.StatusCause

// checkRefusals checks that each bad object is refused, and that every error names
// its field.
func checkRefusals(t *testing.T, validate validator) {
	t.Helper()
	for _, part := range slices.Sorted(maps.Keys(refusals)) {
		for name, want := range refusals[part] {
			t.Run("refuses in "+part+": "+name, func(t *testing.T) {
				causes := validate(t, object(t, want.of, want.change))
				if len(causes) == 0 {
					t.Fatalf("accepted; want an error at %s that says %q", want.field, want.says)
				}
				said := false
				for _, cause := range causes {
					said = said || strings.Contains(cause.Message, want.says)
					if cause.Field != want.field {
						t.Errorf("error at %s: %s\nwant none but at %s", cause.Field, cause.Message, want.field)
					}
					if strings.Contains(cause.Message, canary) {
						t.Errorf("the error repeats a secret: %s", cause.Message)
					}
				}
				if !said {
					t.Errorf("errors: %v\nwant one that says %q", causes, want.says)
				}
			})
		}
	}
}

// checkAccepted checks that no good object is refused.
func checkAccepted(t *testing.T, validate validator) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(accepted)) {
		t.Run("accepts "+name, func(t *testing.T) {
			for _, cause := range validate(t, object(t, accepted[name].of, accepted[name].change)) {
				t.Errorf("error at %s: %s", cause.Field, cause.Message)
			}
		})
	}
}

// definitions returns the CRDs by kind.
func definitions(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(bases + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in %s: %v", bases, err)
	}
	byKind := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(content, definition); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		byKind[definition.Spec.Names.Kind] = definition
	}
	return byKind
}
