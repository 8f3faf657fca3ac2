package use

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/connpool/connpool/internal/stream"
)

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
