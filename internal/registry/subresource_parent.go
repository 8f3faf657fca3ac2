package registry

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
)

// subresourceParent is a resource of which only the subresources are served: the
// objects themselves are custom resources.
type subresourceParent struct {
	singular, kind string
	// sample has a type that the live API knows; no request creates one.
	sample runtime.Object
}

var (
	_ rest.Storage              = (*subresourceParent)(nil)
	_ rest.Scoper               = (*subresourceParent)(nil)
	_ rest.SingularNameProvider = (*subresourceParent)(nil)
	_ rest.KindProvider         = (*subresourceParent)(nil)
)

func (p *subresourceParent) New() runtime.Object { return p.sample.DeepCopyObject() }

func (*subresourceParent) Destroy() {}

func (*subresourceParent) NamespaceScoped() bool { return true }

func (p *subresourceParent) GetSingularName() string { return p.singular }

func (p *subresourceParent) Kind() string { return p.kind }
