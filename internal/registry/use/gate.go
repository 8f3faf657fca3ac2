package use

import (
	"context"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/delivery"
	"github.com/connpool/connpool/internal/registry/figures"
	"github.com/connpool/connpool/internal/registry/history"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/tracing"
)

// Pools is what uses need of a poolset.Set.
type Pools interface {
	// Acquire leases a connection.
	Acquire(ctx context.Context, request poolset.Request) (poolset.Lease, error)
	// ExecOn runs a command on a lease and ends the lease.
	ExecOn(
		ctx context.Context, lease poolset.Lease, request poolset.Request, command driver.Command, streams driver.Streams,
	) (poolset.Execution, error)
	// Problem returns why a target, given by its UID, cannot be used as it is declared; nil
	// if it can, or if nothing is known of it.
	Problem(target string) *driver.Error
	// Return ends a lease after what was done with it has ended with err.
	Return(lease poolset.Lease, err error)
}

// Objects reads declared objects from a cache. The error for an object that does
// not exist satisfies apierrors.IsNotFound. The cache owns what is returned.
type Objects interface {
	Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error)
	Target(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionTarget, error)
	// Targets returns those of a namespace, or of all when it is empty.
	Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error)
}

// Config is what a Gate works with.
type Config struct {
	// Pools, Objects and Authorizer are required.
	Pools      Pools
	Objects    Objects
	Authorizer authorizer.UnconditionalAuthorizer
	// Audit gets a line for every use when it starts, ends or is refused; the zero value none.
	Audit logr.Logger
	// AuditCommands puts the words of commands into these lines. They may hold
	// secrets; standard input and the environment are never written.
	AuditCommands bool
	// Tracer makes spans of uses; nil makes none.
	Tracer *tracing.Tracer
	// Meter gets the figures of uses; nil takes none.
	Meter  figures.Meter
	Limits limits.Limits
}

// Gate admits uses. It is safe for concurrent use.
type Gate struct {
	// Config is as it was given to NewGate.
	Config Config
	// Memory is what uses share.
	Memory limits.Memory
	// Deliveries are the outputs that are on their way to clients.
	Deliveries delivery.Deliveries
	// History is what was used, and what is.
	History *history.History

	*limits.Counter
}

// NewGate makes a gate.
func NewGate(config Config) *Gate {
	return &Gate{
		Config: config, Memory: limits.NewMemory(config.Limits), History: history.New(config.Limits.Parts().History),
		Counter: limits.NewCounter(config.Limits),
	}
}

// PoolName identifies a pool.
type PoolName struct{ Namespace, Name string }
