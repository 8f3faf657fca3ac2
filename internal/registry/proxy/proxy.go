// Package proxy hands HTTP requests to the API of a target itself, such as that of a
// Docker engine or a Kubernetes cluster.
//
//	storage["connectionpools/proxy"] = proxy.New(gate)
//	...
//	next.ServeHTTP(w, proxy.HideQuery(req)) // in front of the generic server
//
// A request is passed on as it was sent: with the credentials of the target's connection,
// and with none of the client's. The answer is the target's, whatever its status; our own
// answers are Status objects with an outcome among their causes.
//
// Trade-offs: kube-apiserver in front of this server rewrites path and query in its own
// way, hides redirects, takes Impersonate- headers for its own, and closes an upgraded
// connection as a whole when either side ends its half, which is why our own client asks
// for frames on it. A direct request is not changed.
package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/halfclose"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
	"github.com/connpool/connpool/internal/stream"
)

// New returns the REST storage of the subresource proxy.
func New(gate *use.Gate) *use.Subresource[*live.ProxyOptions] {
	return &use.Subresource[*live.ProxyOptions]{
		Object: &live.ProxyOptions{}, Options: &live.ProxyOptions{}, Subpath: "path",
		Methods: []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
		},
		Admit: func(ctx context.Context, pool string) (*use.Use, use.ServeFunc[*live.ProxyOptions], error) {
			u, err := gate.Admit(ctx, pool, "proxy")
			return u, func(w http.ResponseWriter, req *http.Request, options *live.ProxyOptions, responder rest.Responder) error {
				return serve(w, req, u, options, responder)
			}, err
		},
	}
}

// serve hands one request on, with a lease for as long as it takes.
func serve(w http.ResponseWriter, req *http.Request, u *use.Use, options *live.ProxyOptions, responder rest.Responder) error {
	location, target, problems := locate(req, options.Path)
	u.Target, u.Method, u.Path = target, req.Method, location.EscapedPath()
	if u.Transport = "http"; stream.IsUpgrade(req) {
		u.Transport = driver.Sanitize(strings.ToLower(req.Header.Get("Upgrade")))
	}
	if problems = append(problems, forbidImpersonation(req.Header)...); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	route, err := u.Route(req.Context(), field.NewPath("path"), target)
	if err != nil {
		return err
	}
	lease, err := u.Lease(req.Context(), route, fits)
	if err != nil {
		return err
	}
	proxier, ok := lease.Conn().(driver.Proxier)
	if !ok {
		lease.Release()
		return refusal.NotStarted(refusal.BadRequest, "", fmt.Sprintf(
			"target %s has no HTTP API that could be proxied; use exec", lease.Target.Name))
	}
	if stream.IsUpgrade(req) {
		w = halfclose.Accept(w, req)
	}
	r := &proxiedRequest{
		use: u, lease: lease, info: route.LeaseInfo(lease), proxier: proxier, location: location, responder: responder,
	}
	r.serve(w, req)
	return nil
}

func fits(target *v1alpha1.ConnectionTarget) field.ErrorList {
	kind := target.Spec.Type()
	if kind != v1alpha1.TargetTypeSSH {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("path"), validate.OfType(target.Name, kind)+
		", which has no HTTP API; use exec or portforward")}
}
