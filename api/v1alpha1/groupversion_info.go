// Package v1alpha1 is the declarative API of connpool: what a user may say about
// connections, and what the operator promises to report about them.
//
// A [ConnectionTarget] names one endpoint and how to authenticate to it. A
// [ConnectionPool] says to which targets the operator keeps connections, how many,
// and by which policy. Both live in a namespace and refer to objects of that
// namespace only.
//
// Rules that need nothing but the object stand in its schema, as bounds or as CEL.
// `kubectl apply` refuses a mistake with the field, the rule and the next step. What
// the operator learns only when it runs stands in a condition, with a Reason from
// this package. There is no admission webhook, because an operator that is down must
// not keep users from editing or deleting objects.
//
// Durations are integers with the unit in the name. Optional scalars are pointers.
// The API server fills in the defaults, so an object that was read from it has all
// of them. Every field may change: the operator carries out a change by replacing
// connections, which disturbs less than a delete followed by a create.
//
// The package imports apimachinery only, so that it can be used as a client library.
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
