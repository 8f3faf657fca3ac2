package registry

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
)

// parent is a resource of which only the subresources are served: the objects
// themselves are custom resources.
type parent struct {
	singular, kind string
	// sample is of a kind that the live API knows; nothing is made of it.
	sample runtime.Object
}

var (
	_ rest.Storage              = (*parent)(nil)
	_ rest.Scoper               = (*parent)(nil)
	_ rest.SingularNameProvider = (*parent)(nil)
	_ rest.KindProvider         = (*parent)(nil)
)

// New implements rest.Storage.
func (p *parent) New() runtime.Object { return p.sample.DeepCopyObject() }

// Destroy implements rest.Storage.
func (*parent) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (*parent) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (p *parent) GetSingularName() string { return p.singular }

// Kind implements rest.KindProvider.
func (p *parent) Kind() string { return p.kind }
