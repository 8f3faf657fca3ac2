package crd

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestSchema(t *testing.T) {
	validate := offline(t)
	checkRefusals(t, validate)
	checkAccepted(t, validate)
}

// TestDefinitions checks what an API server checks when a CRD is created: that
// schemas are structural, that rules compile and that their cost is bounded.
func TestDefinitions(t *testing.T) {
	for kind, definition := range definitions(t) {
		t.Run(kind, func(t *testing.T) {
			definition = definition.DeepCopy()
			apiextensionsv1.SetDefaults_CustomResourceDefinition(definition)
			apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&definition.Spec)
			internal := &apiextensions.CustomResourceDefinition{}
			err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(definition, internal, nil)
			if err != nil {
				t.Fatal(err)
			}
			internal.Status.StoredVersions = []string{definition.Spec.Versions[0].Name}
			for _, problem := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), internal) {
				t.Error(problem)
			}
		})
	}
}

// TestDescriptions checks that `kubectl explain` has an answer for each field,
// and that everything that users may write is bounded.
func TestDescriptions(t *testing.T) {
	for kind, definition := range definitions(t) {
		properties := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
		var missing, unbounded []string
		walk(kind, *properties, func(path string, property apiextensionsv1.JSONSchemaProps) {
			if property.Description == "" {
				missing = append(missing, path)
			}
			if !bounded(property) {
				unbounded = append(unbounded, path)
			}
		})
		if len(missing) > 0 {
			t.Errorf("without a description: %q", missing)
		}
		// A label selector is Kubernetes' own type; rules bound its lists.
		want := []string{
			kind + ".spec.targetSelector.matchExpressions",
			kind + ".spec.targetSelector.matchExpressions.key",
			kind + ".spec.targetSelector.matchExpressions.operator",
			kind + ".spec.targetSelector.matchExpressions.values",
			kind + ".spec.targetSelector.matchLabels",
		}
		if kind != "ConnectionPool" {
			want = nil
		}
		slices.Sort(unbounded)
		if diff := cmp.Diff(want, unbounded); diff != "" {
			t.Errorf("without a bound (-known +found):\n%s", diff)
		}
	}
}

// walk visits each property with a name.
func walk(path string, in apiextensionsv1.JSONSchemaProps, visit func(string, apiextensionsv1.JSONSchemaProps)) {
	for _, name := range slices.Sorted(maps.Keys(in.Properties)) {
		if !strings.Contains(path, ".") && name != "spec" && name != "status" {
			continue // fields of every Kubernetes object
		}
		property := in.Properties[name]
		below := path + "." + name
		visit(below, property)
		walk(below, property, visit)
		if property.Items != nil {
			walk(below, *property.Items.Schema, visit)
		}
	}
}

func bounded(property apiextensionsv1.JSONSchemaProps) bool {
	switch {
	case property.Type == "string":
		return property.MaxLength != nil || property.Enum != nil || property.Format == "date-time"
	case property.Type == "array":
		items := property.Items.Schema
		return property.MaxItems != nil && (items.Type != "string" || items.MaxLength != nil)
	case property.AdditionalProperties != nil:
		return property.MaxProperties != nil
	default:
		return true
	}
}

// offline validates with the code of the API server, in this process.
func offline(t *testing.T) validator {
	t.Helper()
	strategies := map[string]strategy{}
	for kind, definition := range definitions(t) {
		strategies[kind] = newStrategy(t, definition)
	}
	return func(t *testing.T, object *unstructured.Unstructured) []metav1.StatusCause {
		t.Helper()
		chosen := strategies[object.GetKind()]
		causes := []metav1.StatusCause{}
		for _, name := range chosen.unknown(object) {
			causes = append(causes, metav1.StatusCause{Field: name, Message: "unknown field"})
		}
		defaulting.Default(object.UnstructuredContent(), chosen.structural)
		for _, problem := range chosen.Validate(t.Context(), object) {
			if problem.Field != "<nil>" { // "some rules were not checked"
				causes = append(causes, metav1.StatusCause{Field: problem.Field, Message: problem.ErrorBody()})
			}
		}
		return causes
	}
}

type strategy struct {
	Validate   func(ctx context.Context, object runtime.Object) field.ErrorList
	structural *schema.Structural
}

func newStrategy(t *testing.T, definition *apiextensionsv1.CustomResourceDefinition) strategy {
	t.Helper()
	version := definition.Spec.Versions[0]
	internal := &apiextensions.JSONSchemaProps{}
	err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		version.Schema.OpenAPIV3Schema, internal, nil)
	if err != nil {
		t.Fatalf("convert schema: %v", err)
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		t.Fatalf("structural schema: %v", err)
	}
	properties, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		t.Fatalf("schema validator: %v", err)
	}
	kind := runtimeschema.GroupVersionKind{
		Group: definition.Spec.Group, Version: version.Name, Kind: definition.Spec.Names.Kind,
	}
	validate := customresource.NewStrategy(nil, true, kind, properties, nil, structural, nil, nil, nil).Validate
	return strategy{validate, structural}
}

// unknown returns the fields that the schema does not have.
func (s strategy) unknown(object *unstructured.Unstructured) []string {
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	return pruning.PruneWithOptions(object.DeepCopy().UnstructuredContent(), s.structural, true, options)
}
