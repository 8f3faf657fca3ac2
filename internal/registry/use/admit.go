package use

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/registry/figures"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/stream"
)

// Admit authorizes a request to use a pool.
func (g *Gate) Admit(ctx context.Context, pool, subresource string) (*Use, error) {
	u := g.unadmitted(ctx, pool, subresource)
	u.Begin = func() (end func(), err error) { return g.Begin(u.Owner(), u.PoolName.Name) }
	var err error
	if u.permission, err = g.Authorize(ctx, "connectionpools", pool, subresource); err != nil {
		u.AuditRefused(err)
		return nil, err
	}
	u.admitted = true
	u.Figures.Accepted()
	u.Span = g.Config.Tracer.Begin(ctx, spanNames[subresource])
	return u, nil
}

// unadmitted returns a use that nothing permits yet.
func (g *Gate) unadmitted(ctx context.Context, pool, subresource string) *Use {
	id := audit.RequestIDOf(ctx)
	return &Use{
		Gate: g, PoolName: PoolName{Namespace: request.NamespaceValue(ctx), Name: pool}, RequestID: id, AuditID: id,
		permission: permissionFor(ctx, "connectionpools", pool, subresource),
		Figures:    figures.New(g.Config.Meter, request.NamespaceValue(ctx), pool),
	}
}

// AuditRefusedSession notes that a request to use a session was refused before its pool
// was asked about. pool is empty if it is not known.
func (g *Gate) AuditRefusedSession(ctx context.Context, session, pool string, err error) {
	u := g.unadmitted(ctx, pool, "exec")
	u.Session = session
	u.AuditRefused(err)
}

// Subresource is the REST storage of a subresource whose requests are uses with a query O.
type Subresource[O runtime.Object] struct {
	// Object and Options are empty ones.
	Object  runtime.Object
	Options O
	Methods []string
	// Subpath is the option that has the path behind the subresource, if there may be one.
	Subpath string
	// Describe tells the use what its audit lines say about a request, before anything else
	// of it is looked at. nil tells nothing.
	Describe func(u *Use, req *http.Request, options O)
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
		defer u.EndSpan()
		defer u.recordLost()
		u.Transport = stream.TransportOf(req)
		if s.Describe != nil {
			s.Describe(u, req, options.(O)) //nolint:forcetypeassert // NewConnectOptions made it
		}
		end, err := u.begin(req)
		if err == nil {
			defer end()
			// The deadline was for requests of which it is not known who sends them.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			err = serve(w, req, u, options.(O), responder) //nolint:forcetypeassert // NewConnectOptions made it
		}
		if err != nil {
			u.AuditRefused(err)
			responder.Error(err)
		}
	}), nil
}

// begin counts the use and its request until end is called once.
func (u *Use) begin(req *http.Request) (end func(), err error) {
	counted, err := u.Begin()
	if err != nil {
		return nil, err
	}
	release, err := u.Gate.Memory.Hold(u.Owner(), limits.SizeOf(req))
	if err != nil {
		counted()
		return nil, err
	}
	return func() {
		release()
		counted()
	}, nil
}
