package connectiontarget

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
)

// The API server fills in the defaults of the CRD. The operator repeats them for
// objects that it did not read from an API server, and the two must agree.
func TestTheDefaultsInGoAreThoseOfTheCRD(t *testing.T) {
	var pool v1alpha1.ConnectionPool
	fillIn(t, "connectionpools", `{"spec": {}}`, &pool)
	var target v1alpha1.ConnectionTarget
	fillIn(t, "connectiontargets", `{"spec": {"ssh": {"host": "web"}}}`, &target)

	now := complete().now
	tests := map[string]struct{ inGo, inCRD any }{
		"the policy of a pool":         {policy(&v1alpha1.ConnectionPoolSpec{}, v1alpha1.TargetTypeSSH, now), policy(&pool.Spec, v1alpha1.TargetTypeSSH, now)},
		"size.minWarm":                 {int32(v1alpha1.DefaultMinWarm), *pool.Spec.Size.MinWarm},
		"the address of an SSH target": {addressOf(&v1alpha1.SSHTarget{Host: "web"}), addressOf(target.Spec.SSH)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.inCRD, tc.inGo); diff != "" {
				t.Errorf("(-CRD +Go):\n%s", diff)
			}
		})
	}
}

// fillIn reads an object as the API server would give it back: with the defaults
// of its CRD.
func fillIn(t *testing.T, plural, object string, into any) {
	t.Helper()
	content, err := os.ReadFile("../../../config/crd/bases/connpool.dev_" + plural + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(content, &definition); err != nil {
		t.Fatal(err)
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(object), &fields); err != nil {
		t.Fatal(err)
	}
	defaulting.Default(fields, structural)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, into); err != nil {
		t.Fatal(err)
	}
}
