package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/halfclose"
	"github.com/connpool/connpool/internal/stream"
)

// proxy hands HTTP requests to a target's own API.
//
// What kube-apiserver does when it stands before this server is not in our hands:
// it writes the path and the query anew in its own way, hides redirects, closes an
// upgraded connection as a whole when either side ends its half, which is why our
// own client asks for frames on it, and takes Impersonate- headers for its own.
// Direct requests have none of this.
type proxy struct{ *Registry }

var _ rest.Connecter = (*proxy)(nil)

// New implements rest.Storage.
func (*proxy) New() runtime.Object { return &live.ProxyOptions{} }

// Destroy implements rest.Storage.
func (*proxy) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (*proxy) ConnectMethods() []string {
	return []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
}

// NewConnectOptions implements rest.Connecter.
func (*proxy) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return &live.ProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (s *proxy) Connect(ctx context.Context, pool string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	c, err := s.admit(ctx, pool, "proxy")
	if err != nil {
		return nil, err
	}
	return c.handler(responder, func(w http.ResponseWriter, req *http.Request) error {
		return c.proxy(w, req, options.(*live.ProxyOptions), responder) //nolint:forcetypeassert // NewConnectOptions made it
	}), nil
}

// proxy hands one request on, with a lease for as long as it takes.
func (c *call) proxy(w http.ResponseWriter, req *http.Request, options *live.ProxyOptions, responder rest.Responder) error {
	location, target, problems := locate(req, options.Path)
	c.target, c.method, c.path = target, req.Method, location.EscapedPath()
	if c.transport = "http"; stream.IsUpgrade(req) {
		c.transport = plain(strings.ToLower(req.Header.Get("Upgrade")))
	}
	if problems = append(problems, forbidImpersonation(req.Header)...); len(problems) > 0 {
		return invalid(problems)
	}
	pool, err := c.poolObject(req.Context())
	if err != nil {
		return err
	}
	to, err := c.route(req.Context(), pool, field.NewPath("path"), target)
	if err != nil {
		return err
	}
	lease, err := c.acquireFit(req.Context(), to, fitProxy)
	if err != nil {
		return err
	}
	proxier, ok := lease.Conn().(driver.Proxier)
	if !ok {
		lease.Release()
		return refusedBeforeStart(badRequest, "", fmt.Sprintf(
			"target %s has no HTTP API that could be proxied; use exec", lease.Target.Name))
	}
	if stream.IsUpgrade(req) {
		w = halfclose.Accept(w, req)
	}
	x := &exchange{
		call: c, held: c.holding(string(pool.UID), lease), lease: lease, proxier: proxier, location: location, responder: responder,
	}
	x.serve(w, req)
	return nil
}

// fitProxy refuses targets without an HTTP API.
func fitProxy(target *v1alpha1.ConnectionTarget) field.ErrorList {
	kind := target.Spec.Type()
	if kind != v1alpha1.TargetTypeSSH {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("path"), typed(target.Name, kind)+
		", which has no HTTP API; use exec or portforward")}
}
