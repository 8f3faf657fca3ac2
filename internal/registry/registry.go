// Package registry is the REST storage of the live API. It assembles the packages
// below it and has the rest itself: connections, drains and checks.
//
//	r := registry.New(registry.Config{Pools: set, Objects: cache, Authorizer: authorizer})
//	group.VersionedResourcesStorageMap["v1alpha1"] = r.Storage()
//	...
//	r.Wait(ctx) // after the last request was accepted
//
// Nothing is stored. Every request asks the pools for their connections; the names
// and labels of pools and targets come from Objects.
//
// What runs on connections is in packages of its own: exec, session, proxy and
// forward. They share the package use: who may use a pool, how many may, the lease,
// the result and the audit.
//
// Trade-offs: a connection is found by its name by looking at all connections of its
// namespace, which is cheaper than a map that has to follow every change.
package registry

import (
	"context"

	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/forward"
	"github.com/connpool/connpool/internal/registry/proxy"
	"github.com/connpool/connpool/internal/registry/session"
	"github.com/connpool/connpool/internal/registry/use"
)

// Registry is the storage of the live API. It is safe for concurrent use.
type Registry struct {
	config   Config
	gate     *use.Gate
	commands *exec.Commands
	sessions *session.Sessions
}

// New makes a registry. It panics when a required collaborator is missing.
func New(config Config) *Registry {
	if config.Pools == nil || config.Objects == nil || config.Authorizer == nil {
		panic("registry: Pools, Objects and Authorizer are required")
	}
	gate := use.NewGate(use.Config{
		Pools: config.Pools, Objects: config.Objects, Authorizer: config.Authorizer,
		Audit: config.Audit, AuditCommands: config.AuditCommands, Limits: config.Limits,
	})
	return &Registry{config: config, gate: gate, commands: exec.NewCommands(), sessions: session.New(gate)}
}

// Storage returns the resources by their paths.
func (r *Registry) Storage() map[string]rest.Storage {
	drains := drain{pools: r.config.Pools, objects: r.config.Objects, audit: r.config.Audit}
	return map[string]rest.Storage{
		"connections":                 newConnections(r.config.Pools, r.config.Objects, r.config.Replica),
		"connections/drain":           &connectionDrain{drains},
		"connectionpools":             &subresourceParent{singular: "connectionpool", kind: "ConnectionPool", sample: &live.Exec{}},
		"connectionpools/drain":       &poolDrain{drains},
		"connectionpools/exec":        r.commands.Storage(exec.InPools(r.gate)),
		"connectionpools/portforward": forward.New(r.gate),
		"connectionpools/proxy":       proxy.New(r.gate),
		"connectiontargets":           &subresourceParent{singular: "connectiontarget", kind: "ConnectionTarget", sample: &live.Check{}},
		"connectiontargets/check":     &check{pools: r.config.Pools, objects: r.config.Objects},
		"sessions":                    r.sessions,
		"sessions/exec":               r.commands.Storage(r.sessions.AdmitCommand),
	}
}

// Wait returns nil once nothing is used any more. It ends sessions, busy ones after
// what they run now. When ctx ends first, Wait ends what is left, waits for that, and
// returns the error of ctx.
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
