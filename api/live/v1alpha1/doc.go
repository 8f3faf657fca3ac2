// Package v1alpha1 is the live API: which connections there are now, and how to
// use them. The operator serves it from memory as an aggregated API. Nothing in it
// is stored, so there is no spec to reconcile and nothing to watch.
//
//	connections                              get, list
//	connections/{name}/drain                 create Drain
//	uses                                     get, list
//	sessions                                 create, get, list, delete
//	sessions/{name}/exec                     create Exec, or upgrade with ExecOptions
//	connectionpools/{pool}/drain             create Drain
//	connectiontargets/{target}/check         create Check
//	connectionpools/{pool}/exec              create Exec, or upgrade with ExecOptions
//	connectionpools/{pool}/portforward       upgrade with PortForwardOptions
//	connectionpools/{pool}/proxy/{target}/…  any HTTP method
//
// Using a connection needs the verb create on the exact subresource, whatever
// the HTTP method.
//
// Unlike in the declarative API, an absent value and a zero mean the same here:
// these objects are calls and observations, and no client merges them.
//
// +kubebuilder:object:generate=true
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=com.github.connpool.connpool.api.live.v1alpha1
// +groupName=live.connpool.dev
package v1alpha1

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of the live API.
const GroupName = "live.connpool.dev"

// GroupVersion is the group and version of this package's objects.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// SchemeGroupVersion is GroupVersion under the name that generated clients use.
var SchemeGroupVersion = GroupVersion

var schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes, addConversions, addFieldLabels)

// AddToScheme adds this package's objects, and how options are read from a
// query, to a scheme.
var AddToScheme = schemeBuilder.AddToScheme

// Resource qualifies a resource name with this package's group.
func Resource(resource string) schema.GroupResource {
	return GroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&Connection{}, &ConnectionList{}, &Session{}, &SessionList{}, &Use{}, &UseList{},
		&Exec{}, &ExecPlan{}, &ExecResult{}, &ExecSummary{}, &Listing{}, &Drain{}, &Check{},
		&ExecOptions{}, &PortForwardOptions{}, &ProxyOptions{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// query is implemented by options that are read from the query of a request.
type query interface{ read(url.Values) error }

func addConversions(scheme *runtime.Scheme) error {
	for _, options := range []query{&ExecOptions{}, &PortForwardOptions{}, &ProxyOptions{}} {
		err := scheme.AddConversionFunc((*url.Values)(nil), options, func(from, into any, _ conversion.Scope) error {
			return into.(query).read(*from.(*url.Values)) //nolint:forcetypeassert // the scheme calls it for these types only
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addFieldLabels registers the fields by which connections, sessions and uses can be
// selected.
func addFieldLabels(scheme *runtime.Scheme) error {
	if err := addFields(scheme, "Connection", FieldPool, FieldTarget, FieldType, FieldState); err != nil {
		return err
	}
	if err := addFields(scheme, "Session", FieldPool, FieldTarget, FieldState); err != nil {
		return err
	}
	return addFields(scheme, "Use", FieldPool, FieldTarget, FieldState, FieldUser, FieldAction, FieldOutcome)
}

func addFields(scheme *runtime.Scheme, kind string, fields ...string) error {
	return scheme.AddFieldLabelConversionFunc(GroupVersion.WithKind(kind), func(label, value string) (string, string, error) {
		if label == "metadata.name" || label == "metadata.namespace" || slices.Contains(fields, label) {
			return label, value, nil
		}
		return "", "", fmt.Errorf("%q is not a field that a %s can be selected by; use %s or metadata.name",
			label, kind, strings.Join(fields, ", "))
	})
}
