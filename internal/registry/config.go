package registry

import (
	"context"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/use"
)

// Pools is what the registry needs of a poolset.Set.
type Pools interface {
	use.Pools

	// Connections describes the live connections of a namespace, or of all when it
	// is empty.
	Connections(namespace string) []poolset.Connection
	// Recycle replaces a connection and retires it when nothing uses it any more; it
	// reports whether there is such a connection.
	Recycle(pool, target string, id uint64) bool
	// RecyclePool does the same for all connections of a pool and returns how many
	// they are.
	RecyclePool(pool string) int
	// Check dials a target once, beside its pools.
	Check(ctx context.Context, target string) (poolset.Check, error)
}

// Objects reads declared objects from a cache.
type Objects = use.Objects

// Limits bound what runs at the same time.
type Limits = use.Limits

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
