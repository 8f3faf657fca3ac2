// Package registry is the REST storage of the live API. It assembles the packages below
// it and has the rest itself: connections, drains and checks.
//
//	r := registry.New(set, "replica-0", use.Config{Objects: cache, Authorizer: authorizer})
//	group.VersionedResourcesStorageMap["v1alpha1"] = r.Storage()
//	...
//	r.Wait(ctx) // after the last request was accepted
//
// Nothing is stored: every request asks the pools for their connections.
//
// Trade-offs: a connection is found by its name by looking at all connections of its
// namespace, which is cheaper than a map that has to follow every change.
package registry

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/forward"
	"github.com/connpool/connpool/internal/registry/proxy"
	"github.com/connpool/connpool/internal/registry/session"
	"github.com/connpool/connpool/internal/registry/use"
)

// Registry is the storage of the live API. It is safe for concurrent use.
type Registry struct {
	pools    *poolset.Set
	replica  string
	gate     *use.Gate
	commands *exec.Commands
	sessions *session.Sessions
}

// New makes a registry of the pools of the replica. config says how they are used, but for
// its Pools. New panics when a required collaborator is missing.
func New(pools *poolset.Set, replica string, config use.Config) *Registry {
	if pools == nil || config.Objects == nil || config.Authorizer == nil {
		panic("registry: pools, Objects and Authorizer are required")
	}
	config.Pools = pools
	gate := use.NewGate(config)
	return &Registry{pools: pools, replica: replica, gate: gate, commands: exec.NewCommands(), sessions: session.New(gate)}
}

// Storage returns the resources by their paths.
func (r *Registry) Storage() map[string]rest.Storage {
	do := &actions{r.pools, r.gate.Config}
	return map[string]rest.Storage{
		"connections": &connections{
			Resource: connectionResource, pools: r.pools, objects: r.gate.Config.Objects, replica: r.replica,
		},
		"connections/drain":           &action{&live.Drain{}, do.drainConnection},
		"connectionpools":             &subresourceParent{singular: "connectionpool", kind: "ConnectionPool", sample: &live.Exec{}},
		"connectionpools/drain":       &action{&live.Drain{}, do.drainPool},
		"connectionpools/exec":        r.commands.Storage(exec.InPools(r.gate)),
		"connectionpools/portforward": forward.New(r.gate),
		"connectionpools/proxy":       proxy.New(r.gate),
		"connectiontargets":           &subresourceParent{singular: "connectiontarget", kind: "ConnectionTarget", sample: &live.Check{}},
		"connectiontargets/check":     &action{&live.Check{}, do.check},
		"sessions":                    r.sessions,
		"sessions/exec":               r.commands.Storage(r.sessions.AdmitCommand),
	}
}

// Wait ends sessions, busy ones after what they run now, and returns nil once nothing is
// used any more. When ctx ends first, it ends what is left and returns the error of ctx.
func (r *Registry) Wait(ctx context.Context) error {
	r.sessions.EndWhenIdle()
	select {
	case <-r.gate.Idle():
		return nil
	case <-ctx.Done():
	}
	r.gate.Cancel()
	<-r.gate.Idle()
	return ctx.Err()
}

// subresourceParent is the parent of subresources; its objects are custom resources.
type subresourceParent struct {
	singular, kind string
	// sample has a type that the live API knows; no request creates one.
	sample runtime.Object
}

var _ rest.KindProvider = (*subresourceParent)(nil)

// New implements rest.Storage.
func (p *subresourceParent) New() runtime.Object { return p.sample.DeepCopyObject() }

// Destroy implements rest.Storage.
func (*subresourceParent) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (*subresourceParent) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (p *subresourceParent) GetSingularName() string { return p.singular }

// Kind implements rest.KindProvider.
func (p *subresourceParent) Kind() string { return p.kind }
