package registry

import (
	"context"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// call is one request to use a pool, and what its audit lines say.
type call struct {
	*Registry

	permission authorizer.AttributesRecord
	pool       poolName
	// target is as the request names it until one is found.
	target string
	// place in the target, as the request names it.
	place driver.Place
	// method and path of a proxied request, without its query.
	method, path string
	transport    string
	requestID    string
	began        time.Time
	// session in which it runs, if it runs in one.
	session string
	// stdout and stderr are what a command in the JSON form has written.
	stdout, stderr *capture
}

// admit authorizes a request to use a pool.
func (r *Registry) admit(ctx context.Context, pool, subresource string) (*call, error) {
	namespace := request.NamespaceValue(ctx)
	c := &call{
		Registry:   r,
		permission: permissionFor(ctx, namespace, pool, subresource),
		pool:       poolName{namespace: namespace, name: pool},
		requestID:  requestIDOf(ctx),
		began:      time.Now(),
	}
	if err := r.authorize(ctx, c.permission); err != nil {
		c.auditRefused(err)
		return nil, err
	}
	return c, nil
}

// requestIDOf is the ID under which the API server's own audit log has the
// request, so that both can be brought together.
func requestIDOf(ctx context.Context) string {
	if id := plain(audit.GetAuditIDTruncated(ctx)); id != "" {
		return id
	}
	return string(uuid.NewUUID())
}

// handler serves the request as one use. An error from serve means that nothing
// was started and nothing answered.
func (c *call) handler(responder rest.Responder, serve func(http.ResponseWriter, *http.Request) error) http.Handler {
	use := func() (end func(), err error) { return c.uses.begin(c.userName(), c.pool) }
	return c.handlerOf(use, responder, serve)
}

// handlerOf is handler for a use that begins in its own way.
func (c *call) handlerOf(
	use func() (end func(), err error), responder rest.Responder, serve func(http.ResponseWriter, *http.Request) error,
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c.transport = transportOf(req)
		end, err := use()
		if err == nil {
			defer end()
			err = serve(w, req)
		}
		if err != nil {
			c.auditRefused(err)
			responder.Error(err)
		}
	})
}

func (c *call) userName() string {
	if c.permission.User == nil {
		return ""
	}
	return c.permission.User.GetName()
}

// transportOf says in one word how a request came.
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
