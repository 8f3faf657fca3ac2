// Package use is what all uses of a pool share: who may use it, how many uses there may
// be at the same time, the lease, the result and the audit. The refusals of a lease, of
// all that the pools can answer, are worded in refusals.go.
//
//	gate := use.NewGate(use.Config{Pools: set, Objects: cache, Authorizer: authorizer})
//	...
//	u, err := gate.Admit(ctx, "web", "exec")
//	route, err := u.Route(ctx, field.NewPath("target"), "web-1")
//	lease, err := u.Lease(ctx, route, validate.Place(nil, u.Place))
//
// A use needs the verb create on the exact subresource of its pool. The generic server
// has checked the verb that it sees, which for a WebSocket is get, so Admit checks it
// again, and Watch repeats that while the use lasts.
//
// At most once: an error before the lease is an HTTP status, and a command that had a
// lease ends with an outcome instead. No answer has a Retry-After, because clients would
// send the command again on their own.
//
// Trade-offs: each process counts its own uses; several replicas do not add theirs up.
package use

import (
	"context"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/figures"
	"github.com/connpool/connpool/internal/registry/history"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/tracing"
)

// Use is one request to use a pool, and what its audit lines say.
type Use struct {
	Gate     *Gate
	PoolName PoolName
	// Begin counts the use until end is called once, unless it is one too many.
	Begin func() (end func(), err error)
	// Target is as the request names it until Lease has found one.
	Target string
	// Place in the target, as the request names it.
	Place driver.Place
	// Transport says in one word how the request came.
	Transport string
	// RequestID is the client's own, if it has sent one, and AuditID otherwise.
	RequestID string
	// AuditID is the ID of the request in the API server's own audit log.
	AuditID string
	// Session is the name of the session in which the use runs, if it runs in one.
	Session string
	// Method and Path of a proxied request, without its query.
	Method, Path string

	// Listing is what is listed, if the request lists something and runs nothing.
	Listing string

	// Host, or Socket, to which a port-forward leads.
	Host, Socket string

	// entry is that of the history; nil before the use has started. admitted is set once
	// the user is known to have the permission.
	entry    *history.Entry
	admitted bool

	// Span of the whole use, and running of what it does on its connection. Both are nil
	// if they are not sampled.
	Span, running *tracing.Span
	// Figures are taken of the use while it lasts.
	Figures figures.Use

	permission authorizer.AttributesRecord
	// required are permissions that it needs beside that one.
	required []authorizer.AttributesRecord
	pool     *v1alpha1.ConnectionPool
	// watched is that of the whole if the use is a part.
	watched context.Context //nolint:containedctx // a part ends with the whole
}

// UserOf returns the name of the user of a request; it is empty without one.
func UserOf(ctx context.Context) string {
	if info, ok := request.UserFrom(ctx); ok {
		return info.GetName()
	}
	return ""
}

// Owner is whose shares of the limits the use takes.
func (u *Use) Owner() quota.Owner {
	return quota.Owner{Namespace: u.PoolName.Namespace, User: u.UserName()}
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
