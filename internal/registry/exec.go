package registry

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// exec runs commands: streamed after an upgrade, or a JSON object that comes back
// with its result.
type exec struct{ *Registry }

var _ rest.Connecter = (*exec)(nil)

// New implements rest.Storage.
func (*exec) New() runtime.Object { return &live.Exec{} }

// Destroy implements rest.Storage.
func (*exec) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (*exec) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// NewConnectOptions implements rest.Connecter.
func (*exec) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return &live.ExecOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (s *exec) Connect(ctx context.Context, pool string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	c, err := s.admit(ctx, pool, "exec")
	if err != nil {
		return nil, err
	}
	return c.handler(responder, func(w http.ResponseWriter, req *http.Request) error {
		switch {
		case stream.IsUpgrade(req):
			return c.streamExec(w, req, options.(*live.ExecOptions)) //nolint:forcetypeassert // NewConnectOptions made it
		case req.Method == http.MethodPost:
			return c.postExec(w, req, responder)
		default:
			return refusedBeforeStart(badRequest, "", "a command runs by POST with an Exec object, or by GET or POST "+
				"with an upgrade to WebSocket or SPDY")
		}
	}), nil
}

// streamExec runs a command whose streams are the client's. The lease comes
// before the upgrade, so that whoever gets none has an HTTP status.
func (c *call) streamExec(w http.ResponseWriter, req *http.Request, options *live.ExecOptions) error {
	ctx := req.Context()
	c.target, c.place = options.Target, placeOf(options)
	env, problems := validateExecOptions(options)
	if len(problems) > 0 {
		return invalid(problems)
	}
	pool, err := c.poolObject(ctx)
	if err != nil {
		return err
	}
	to, err := c.route(ctx, pool, field.NewPath("target"), options.Target)
	if err != nil {
		return err
	}
	lease, err := c.acquireFit(ctx, to, fitCommand(nil, c.place, options.Subsystem))
	if err != nil {
		return err
	}
	c.holding(string(pool.UID), lease).announce(w.Header(), c.requestID)
	// The stream has to know when the time is over: a client that does not read
	// could outlive its permission otherwise, since whoever writes to it waits.
	ctx, stop := c.watch(ctx, c.permission)
	defer stop()
	upgraded := false
	wanted := stream.ExecOptions{Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, TTY: options.TTY}
	stream.ServeExec(w, req.WithContext(ctx), wanted,
		func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
			upgraded = true
			return c.run(ctx, to, lease, streamed(options, env, resize), streams).status()
		})
	if !upgraded {
		lease.Release()
		c.auditRefused(errNotUpgraded)
	}
	return nil
}

func placeOf(options *live.ExecOptions) driver.Place {
	return driver.Place{Container: options.Container, Pod: options.Pod, Namespace: options.Namespace}
}

// errNotUpgraded is what the stream has told the client by itself.
var errNotUpgraded = refused(badRequest, "the streams were not opened")
