// Package registry is the REST storage of the live API: it validates, authorizes,
// leases, streams and releases. Each resource is one small struct; Storage hands
// them to the API server by the paths under which they are served.
//
//	r := registry.New(registry.Config{Pools: set, Objects: cache, Authorizer: authorizer})
//	group.VersionedResourcesStorageMap["v1alpha1"] = r.Storage()
//	...
//	r.Wait(ctx) // after the last request was accepted
//
// Nothing is stored. What connections there are is asked of the pools at every
// request; what a pool or target is called, and which labels it has, of Objects.
//
// Whoever uses a connection needs the verb create on the exact subresource. The
// generic server has checked the verb that it sees, which for a WebSocket is get,
// so it is checked here again, and every 15 seconds while a use lasts.
//
// At most once: a lease is taken before anything may start, every error until
// then is an HTTP status, and every command that had a lease ends with an outcome
// instead. No answer ever asks to be retried after a while, because clients would
// send the command again by themselves.
//
// A request for a target's own API is authorized like a command, and then passed
// on as it was sent: with the credentials of the target's connection, and with none
// of the client's. Its answer is the target's, whatever its status; our own are
// Status objects, with an outcome among their causes.
//
// Trade-offs: results under a request ID are remembered in the memory of this
// process, bounded, and refused rather than forgotten early. To find a connection
// by its name costs a look at all of its namespace, which is cheap beside a map to
// be kept true.
package registry

import (
	"context"
	"errors"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// Pools is what the registry needs of a poolset.Set.
type Pools interface {
	// Connections describes the live connections of a namespace, or of all when it
	// is empty.
	Connections(namespace string) []poolset.Connection
	// Recycle replaces a connection and retires it when nothing uses it any more;
	// false when there is none such.
	Recycle(pool, target string, id uint64) bool
	// RecyclePool does the same for all connections of a pool and says how many.
	RecyclePool(pool string) int
	// Check dials a target once, beside its pools.
	Check(ctx context.Context, target string) (poolset.Check, error)
	// Acquire leases a connection.
	Acquire(ctx context.Context, request poolset.Request) (poolset.Lease, error)
	// ExecOn runs a command on a lease and ends the lease.
	ExecOn(
		ctx context.Context, lease poolset.Lease, request poolset.Request, command driver.Command, streams driver.Streams,
	) (poolset.Execution, error)
	// Return ends a lease after what was done with it has ended with err.
	Return(lease poolset.Lease, err error)
}

// Objects reads what is declared, from a cache. What does not exist is an error
// for which apierrors.IsNotFound is true. What is returned belongs to the cache.
type Objects interface {
	Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error)
	Target(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error)
	// Targets returns those of a namespace, or of all when it is empty.
	Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error)
}

// Config is what a Registry works with.
type Config struct {
	// Pools, Objects and Authorizer are required.
	Pools      Pools
	Objects    Objects
	Authorizer authorizer.UnconditionalAuthorizer
	// Audit gets a line for every request that uses a pool, when it starts, when it
	// ends and when it is refused. The zero value writes none.
	Audit logr.Logger
	// AuditCommands puts the words of commands into these lines. They may hold
	// secrets; standard input and the environment are never written.
	AuditCommands bool
	// Replica names this process in connections.
	Replica string
	Limits  Limits
}

// Limits bound what runs at the same time. 0 means no bound.
type Limits struct {
	// StreamsPerUser bounds the uses of one user, and StreamsPerPool those of one
	// pool; commands of the JSON form count like streams.
	StreamsPerUser, StreamsPerPool int
}

// Registry is the storage of the live API. It is safe for concurrent use.
type Registry struct {
	Config

	uses    *uses
	records *records
	shells  *sessionStore
	// input and output are what commands of the JSON form hold.
	input, output *budget
}

// New makes a registry. It panics when a required collaborator is missing.
func New(config Config) *Registry {
	if config.Pools == nil || config.Objects == nil || config.Authorizer == nil {
		panic("registry: Pools, Objects and Authorizer are required")
	}
	return &Registry{
		Config: config, uses: newUses(config.Limits), records: newRecords(recordLimits), shells: newSessionStore(),
		input: newBudget(maxBytes, maxUserBytes), output: newBudget(maxBytes, maxUserBytes),
	}
}

// Storage returns the resources by their paths.
func (r *Registry) Storage() map[string]rest.Storage {
	return map[string]rest.Storage{
		"connections":                 &connections{Registry: r},
		"connections/drain":           &connectionDrain{Registry: r},
		"connectionpools":             &parent{singular: "connectionpool", kind: "ConnectionPool", sample: &live.Exec{}},
		"connectionpools/drain":       &poolDrain{Registry: r},
		"connectionpools/exec":        &exec{Registry: r},
		"connectionpools/portforward": &portForward{Registry: r},
		"connectionpools/proxy":       &proxy{Registry: r},
		"connectiontargets":           &parent{singular: "connectiontarget", kind: "ConnectionTarget", sample: &live.Check{}},
		"connectiontargets/check":     &check{Registry: r},
		"sessions":                    &sessions{Registry: r},
		"sessions/exec":               &sessionExec{Registry: r},
	}
}

// errShutdown is why uses are ended that outlast the patience of Wait.
var errShutdown = errors.New("the operator is shutting down")

// Wait returns nil when nothing is used any more. Sessions are ended, busy ones
// after what they do now. When ctx ends first, it ends what is left, waits for
// that, and returns the error of ctx.
func (r *Registry) Wait(ctx context.Context) error {
	r.shells.leave()
	select {
	case <-r.uses.idle():
		return nil
	case <-ctx.Done():
	}
	r.uses.cut()
	<-r.uses.idle()
	return ctx.Err()
}
