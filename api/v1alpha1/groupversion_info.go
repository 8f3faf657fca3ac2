// Package v1alpha1 is the declarative API of connpool: what a user may say
// about connections, and what the operator promises to say back.
//
// A [ConnectionTarget] names one endpoint and how to authenticate to it. A
// [ConnectionPool] says how many connections to which targets are kept, and the
// policy that keeps them good. Both live in a namespace and refer to objects of
// that namespace only.
//
// Rules that need nothing but the object stand in its schema, as bounds or as
// CEL, so that `kubectl apply` refuses a mistake with the field, the rule and
// the next step. What only run time can know goes to a condition, with a Reason
// from this package. There is no admission webhook: an operator that is down
// must not block anybody from editing or deleting objects.
//
// Durations are integers with the unit in the name. Optional scalars are
// pointers; the API server fills in defaults, so an object read from it has
// them all. Nothing is immutable: every change can be carried out by replacing
// connections, and a delete followed by a create would do it less gently.
//
// The package imports apimachinery only, so that it can be used as a client
// library.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="../../client/applyconfiguration"
// +groupName=connpool.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of the declarative objects.
const GroupName = "connpool.dev"

// GroupVersion is the group and version of this package's objects.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// SchemeGroupVersion is GroupVersion under the name that generated clients use.
var SchemeGroupVersion = GroupVersion

var schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme adds this package's objects to a scheme.
var AddToScheme = schemeBuilder.AddToScheme

// Resource qualifies a resource name with this package's group.
func Resource(resource string) schema.GroupResource {
	return GroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&ConnectionTarget{}, &ConnectionTargetList{},
		&ConnectionPool{}, &ConnectionPoolList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
