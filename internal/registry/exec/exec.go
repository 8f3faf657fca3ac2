// Package exec runs the commands of the live API: streamed after an upgrade, or as
// a JSON object that comes back with its result. All commands take the same path; a
// Backend says where they run, in a pool or in a session.
//
//	commands := exec.NewCommands()
//	storage["connectionpools/exec"] = commands.Storage(exec.InPools(gate))
//	storage["sessions/exec"] = commands.Storage(sessions.AdmitCommand)
//
// A request is admitted, counted and validated, and gets its lease, before anything
// may start: every error until then is an HTTP status. From then on the answer is
// the result with its outcome, which is a 200 in the JSON form.
//
// Trade-offs: what the JSON form holds of inputs and outputs is bounded, for all and
// for each user. An input that would be too much is refused, and of an output only
// the beginning is kept; streams have no such bounds.
package exec

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/stream"
)

// Storage is the REST storage of a subresource exec.
type Storage struct {
	commands *Commands
	admit    AdmitFunc
}

var _ rest.Connecter = (*Storage)(nil)

// Storage returns the subresource whose requests are admitted like that.
func (c *Commands) Storage(admit AdmitFunc) *Storage { return &Storage{commands: c, admit: admit} }

// New implements rest.Storage.
func (*Storage) New() runtime.Object { return &live.Exec{} }

// Destroy implements rest.Storage.
func (*Storage) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (*Storage) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// NewConnectOptions implements rest.Connecter.
func (*Storage) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return &live.ExecOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (s *Storage) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	u, backend, err := s.admit(ctx, name)
	if err != nil {
		return nil, err
	}
	r := &request{commands: s.commands, use: u, backend: backend, rules: backend.Rules()}
	return u.Handler(backend.Begin, responder, func(w http.ResponseWriter, req *http.Request) error {
		switch {
		case stream.IsUpgrade(req):
			return r.stream(w, req, options.(*live.ExecOptions)) //nolint:forcetypeassert // NewConnectOptions made it
		case req.Method == http.MethodPost:
			return r.post(w, req, responder)
		default:
			return refusal.NotStarted(refusal.BadRequest, "", "a command runs by POST with an Exec object, or by GET or POST "+
				"with an upgrade to WebSocket or SPDY")
		}
	}), nil
}
