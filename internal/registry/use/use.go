// Package use is what all uses of a pool share: who may use it, how many uses there
// may be at the same time, the lease, the result, the audit lines, and the words for
// what the pools refuse.
//
//	gate := use.NewGate(use.Config{Pools: set, Objects: cache, Authorizer: authorizer})
//	...
//	u, err := gate.Admit(ctx, "web", "exec")
//	handler := u.Handler(u.Begin, responder, func(w http.ResponseWriter, req *http.Request) error {
//		route, err := u.Route(req.Context(), field.NewPath("target"), "web-1")
//		...
//		lease, err := u.Lease(req.Context(), route, validate.Place(nil, u.Place))
//		...
//	})
//
// A use needs the verb create on the exact subresource of its pool. The generic
// server has checked the verb that it sees, which for a WebSocket is get, so Admit
// checks it again, and Watch repeats that check every 15 seconds while the use
// lasts.
//
// At most once: an error before the lease is an HTTP status, and a command that
// had a lease ends with an outcome instead. No answer has a Retry-After, because
// clients would send the command again on their own.
//
// Trade-offs: each process counts its own uses; several replicas do not add theirs
// up.
package use

import (
	"context"
	"net/http"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/stream"
)

// Pools is what uses need of a poolset.Set.
type Pools interface {
	// Acquire leases a connection.
	Acquire(ctx context.Context, request poolset.Request) (poolset.Lease, error)
	// ExecOn runs a command on a lease and ends the lease.
	ExecOn(
		ctx context.Context, lease poolset.Lease, request poolset.Request, command driver.Command, streams driver.Streams,
	) (poolset.Execution, error)
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
	// Audit gets a line for every use when it starts, when it ends and when it is
	// refused. The zero value writes none.
	Audit logr.Logger
	// AuditCommands puts the words of commands into these lines. They may hold
	// secrets; standard input and the environment are never written.
	AuditCommands bool
	Limits        Limits
}

// Gate admits uses. It is safe for concurrent use.
type Gate struct {
	// Config is as it was given to NewGate.
	Config Config

	running *counter
}

// NewGate makes a gate.
func NewGate(config Config) *Gate { return &Gate{Config: config, running: newCounter(config.Limits)} }

// Idle returns a channel that is closed once no use runs.
func (g *Gate) Idle() <-chan struct{} { return g.running.idle() }

// Join counts a part of a use that the limits count already, until end is called
// once. Idle waits for it, and no limit refuses it.
func (g *Gate) Join() (end func(), err error) { return g.running.join() }

// Cancel ends all uses: their contexts end with ErrShutdown.
func (g *Gate) Cancel() { g.running.cancel() }

// Use is one request to use a pool, and what its audit lines say.
type Use struct {
	Gate *Gate
	// PoolName identifies the pool.
	PoolName PoolName
	// Target is as the request names it until Lease has found one.
	Target string
	// Place in the target, as the request names it.
	Place driver.Place
	// Transport says in one word how the request came.
	Transport string
	RequestID string
	// Session is the name of the session in which the use runs, if it runs in one.
	Session string
	// Method and Path of a proxied request, without its query.
	Method, Path string

	permission authorizer.AttributesRecord
	// pool is the declared pool, once it was read.
	pool *v1alpha1.ConnectionPool
}

// Admit authorizes a request to use a pool.
func (g *Gate) Admit(ctx context.Context, pool, subresource string) (*Use, error) {
	namespace := request.NamespaceValue(ctx)
	u := &Use{
		Gate:       g,
		PoolName:   PoolName{Namespace: namespace, Name: pool},
		RequestID:  RequestIDOf(ctx),
		permission: permissionFor(ctx, "connectionpools", pool, subresource),
	}
	if err := g.authorize(ctx, u.permission); err != nil {
		u.AuditRefused(err)
		return nil, err
	}
	return u, nil
}

// RequestIDOf returns the ID of the request in the API server's own audit log, so
// that the lines of both logs can be matched.
func RequestIDOf(ctx context.Context) string {
	if id := driver.Sanitize(audit.GetAuditIDTruncated(ctx)); id != "" {
		return id
	}
	return string(uuid.NewUUID())
}

// Begin counts the use until end is called once, unless it is one too many.
func (u *Use) Begin() (end func(), err error) { return u.Gate.running.begin(u.UserName(), u.PoolName) }

// Handler serves the request as one use, which begin counts. An error from serve
// means that nothing was started and nothing was answered.
func (u *Use) Handler(
	begin func() (end func(), err error), responder rest.Responder, serve func(http.ResponseWriter, *http.Request) error,
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		u.Transport = transportOf(req)
		end, err := begin()
		if err == nil {
			defer end()
			err = serve(w, req)
		}
		if err != nil {
			u.AuditRefused(err)
			responder.Error(err)
		}
	})
}

// Watch returns a context that ends when the user loses the permission, with
// ErrRevoked, or when the gate cancels all uses, with ErrShutdown. stop must be
// called.
func (u *Use) Watch(ctx context.Context) (watched context.Context, stop func()) {
	return u.Gate.watch(ctx, u.permission)
}

// User returns the user of the request.
func (u *Use) User() user.Info { return u.permission.User }

// UserName returns the name of the user; it is empty without one.
func (u *Use) UserName() string {
	if u.permission.User == nil {
		return ""
	}
	return u.permission.User.GetName()
}

// transportOf returns json, websocket or spdy.
func transportOf(req *http.Request) string {
	switch {
	case !stream.IsUpgrade(req):
		return "json"
	case strings.EqualFold(req.Header.Get("Upgrade"), "websocket"):
		return "websocket"
	default:
		return "spdy"
	}
}
