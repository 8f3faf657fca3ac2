package use

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/connpool/connpool/internal/stream"
)

// Admit authorizes a request to use a pool.
func (g *Gate) Admit(ctx context.Context, pool, subresource string) (*Use, error) {
	u := &Use{
		Gate:      g,
		PoolName:  PoolName{Namespace: request.NamespaceValue(ctx), Name: pool},
		RequestID: RequestIDOf(ctx),
	}
	u.Begin = func() (end func(), err error) { return g.begin(u.UserName(), u.PoolName) }
	var err error
	if u.permission, err = g.Authorize(ctx, "connectionpools", pool, subresource); err != nil {
		u.AuditRefused(err)
		return nil, err
	}
	return u, nil
}

// Subresource is the REST storage of a subresource whose requests are uses with a query O.
type Subresource[O runtime.Object] struct {
	// Object and Options are empty ones.
	Object  runtime.Object
	Options O
	Methods []string
	// Subpath is the option that has the path behind the subresource, if there may be one.
	Subpath string
	// Admit authorizes a request about the object of that name.
	Admit func(ctx context.Context, name string) (*Use, ServeFunc[O], error)
}

// ServeFunc serves a request. An error means that nothing was started or answered.
type ServeFunc[O runtime.Object] func(w http.ResponseWriter, req *http.Request, u *Use, options O, responder rest.Responder) error

var _ rest.Connecter = (*Subresource[runtime.Object])(nil)

// New implements rest.Storage.
func (s *Subresource[O]) New() runtime.Object { return s.Object.DeepCopyObject() }

// Destroy implements rest.Storage.
func (*Subresource[O]) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (s *Subresource[O]) ConnectMethods() []string { return s.Methods }

// NewConnectOptions implements rest.Connecter.
func (s *Subresource[O]) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return s.Options.DeepCopyObject(), s.Subpath != "", s.Subpath
}

// Connect implements rest.Connecter.
func (s *Subresource[O]) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	u, serve, err := s.Admit(ctx, name)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		u.Transport = transportOf(req)
		end, err := u.Begin()
		if err == nil {
			defer end()
			err = serve(w, req, u, options.(O), responder) //nolint:forcetypeassert // NewConnectOptions made it
		}
		if err != nil {
			u.AuditRefused(err)
			responder.Error(err)
		}
	}), nil
}

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
