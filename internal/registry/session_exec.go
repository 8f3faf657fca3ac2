package registry

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// sessionExec runs commands in a session: streamed after an upgrade, or a JSON
// object that comes back with its result.
type sessionExec struct{ *Registry }

var _ rest.Connecter = (*sessionExec)(nil)

// New implements rest.Storage.
func (*sessionExec) New() runtime.Object { return &live.Exec{} }

// Destroy implements rest.Storage.
func (*sessionExec) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (*sessionExec) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// NewConnectOptions implements rest.Connecter.
func (*sessionExec) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return &live.ExecOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (s *sessionExec) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	c, held, err := s.admitToSession(ctx, name)
	if err != nil {
		return nil, err
	}
	// The session itself is the use that counts.
	return c.handlerOf(c.uses.join, responder, func(w http.ResponseWriter, req *http.Request) error {
		switch {
		case stream.IsUpgrade(req):
			return c.streamInSession(w, req, held, options.(*live.ExecOptions)) //nolint:forcetypeassert // NewConnectOptions made it
		case req.Method == http.MethodPost:
			return c.postInSession(w, req, held, responder)
		default:
			return refusedBeforeStart(badRequest, "", "a command runs by POST with an Exec object, or by GET or POST "+
				"with an upgrade to WebSocket or SPDY")
		}
	}), nil
}

// admitToSession finds a session for its owner, who must be permitted to use
// sessions, and the pool.
func (r *Registry) admitToSession(ctx context.Context, name string) (*call, *heldSession, error) {
	namespace := request.NamespaceValue(ctx)
	wanted := permissionFor(ctx, namespace, name, "exec")
	wanted.Resource = "sessions"
	if err := r.authorize(ctx, wanted); err != nil {
		return nil, nil, err
	}
	held, err := r.shells.find(namespace, name)
	if err != nil {
		return nil, nil, err
	}
	if !owns(held.owner, wanted.User) {
		return nil, nil, apierrors.NewForbidden(live.Resource("sessions"), name,
			errors.New("only its creator may use a session; create one of your own"))
	}
	c, err := r.admit(ctx, held.pool.name, "exec")
	if err != nil {
		return nil, nil, err
	}
	c.session, c.target, c.place = name, held.held.target, held.place
	return c, held, nil
}

// postInSession runs the command of an Exec object, as postExec does.
func (c *call) postInSession(w http.ResponseWriter, req *http.Request, held *heldSession, responder rest.Responder) error {
	release, err := c.holdBody(c.userName(), req.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	c.stdout, c.stderr = c.newCapture(c.userName()), c.newCapture(c.userName())
	defer c.stdout.release()
	defer c.stderr.release()
	object, err := c.readExec(w, req)
	if err != nil {
		return err
	}
	spec := &object.Spec
	if problems := validateExecInSession(spec); len(problems) > 0 {
		return invalid(problems)
	}
	run := func(ctx context.Context) (*live.ExecStatus, error) { return c.executeInSession(ctx, held, spec) }
	var status *live.ExecStatus
	if spec.RequestID == "" {
		status, err = run(req.Context())
	} else {
		c.requestID = spec.RequestID
		status, err = c.once(req.Context(), "session/"+string(held.object.UID), spec, run)
	}
	if err != nil {
		return err
	}
	object.Status = *status
	object.Namespace, object.Name = c.pool.namespace, c.session
	responder.Object(http.StatusOK, object)
	return nil
}

// executeInSession runs a command and keeps what it says, as execute does.
func (c *call) executeInSession(ctx context.Context, held *heldSession, spec *live.ExecSpec) (*live.ExecStatus, error) {
	if spec.TimeoutSeconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, seconds(spec.TimeoutSeconds), errTimeout)
		defer cancel()
	}
	if err := held.begin(); err != nil {
		return nil, err
	}
	command := driver.Command{Argv: spec.Command, Shell: spec.Shell}
	status := c.runInSession(ctx, held, command, driver.Streams{Stdout: c.stdout, Stderr: c.stderr}).result()
	status.Stdout, status.StdoutBytes = c.stdout.text()
	status.Stderr, status.StderrBytes = c.stderr.text()
	status.Truncated = c.stdout.truncated || c.stderr.truncated
	return &status, nil
}

// streamInSession runs a command whose output streams to the client.
func (c *call) streamInSession(w http.ResponseWriter, req *http.Request, held *heldSession, options *live.ExecOptions) error {
	if problems := validateStreamInSession(options); len(problems) > 0 {
		return invalid(problems)
	}
	if err := held.begin(); err != nil {
		return err
	}
	held.held.now().announce(w.Header(), c.requestID)
	// The stream has to know when the session ends: whoever writes to a client that
	// does not read would not notice.
	ctx, stop := context.WithCancel(req.Context())
	defer stop()
	defer context.AfterFunc(held.ctx, stop)() //nolint:contextcheck // the session has a life of its own
	upgraded := false
	wanted := stream.ExecOptions{Stdout: options.Stdout, Stderr: options.Stderr}
	stream.ServeExec(w, req.WithContext(ctx), wanted,
		func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			upgraded = true
			return c.runInSession(ctx, held, driver.Command{Argv: options.Command, Shell: options.Shell}, streams).status()
		})
	if !upgraded {
		held.finish(live.OutcomeNotStarted)
		c.auditRefused(errNotUpgraded)
	}
	return nil
}

// runInSession runs a command that the session has counted.
func (c *call) runInSession(ctx context.Context, held *heldSession, command driver.Command, streams driver.Streams) ending {
	end := ending{held: held.held.now(), requestID: c.requestID, outcome: live.OutcomeUnknown}
	defer func() { held.finish(end.outcome) }() // also of what panics
	c.auditStarted(end.held, &command)
	var bytes traffic
	streams = bytes.count(streams)
	began := time.Now()
	status, err := held.shell.Run(ctx, command, streams.Stdout, streams.Stderr)
	end.duration = time.Since(began)
	end.code, end.signal = status.Code, status.Signal
	end.conclude(ctx, err)
	if end.outcome == live.OutcomeUnknown && errors.Is(context.Cause(ctx), errTimeout) {
		end.message += "; the session has ended with it, create another one"
	}
	c.auditEnded(end, &bytes)
	return end
}

// now says how a command has got the connection of its session: it was there.
func (h held) now() held {
	h.acquired, h.wait = live.AcquiredWarm, 0
	return h
}

// validateExecInSession returns what is wrong with a command for a session, which
// stays where it is.
func validateExecInSession(spec *live.ExecSpec) field.ErrorList {
	root := field.NewPath("spec")
	problems := validateExec(spec)
	problems = append(problems, onlyPools(root, map[string]bool{
		"target": spec.Target != "", "container": spec.Container != "", "pod": spec.Pod != "", "namespace": spec.Namespace != "",
		"subsystem": spec.Subsystem != "", "env": len(spec.Env) > 0, "stdin": len(spec.Stdin) > 0,
	})...)
	return problems
}

// validateStreamInSession does the same for the query of a streamed command.
func validateStreamInSession(options *live.ExecOptions) field.ErrorList {
	problems := validateKind(nil, options.Command, options.Shell, options.Subsystem)
	problems = append(problems, validateWords(nil, options.Command, options.Shell, options.Subsystem)...)
	problems = append(problems, onlyPools(nil, map[string]bool{
		"target": options.Target != "", "container": options.Container != "", "pod": options.Pod != "",
		"namespace": options.Namespace != "", "subsystem": options.Subsystem != "", "env": len(options.Env) > 0,
		"stdin": options.Stdin, "tty": options.TTY, "term": options.Term != "",
	})...)
	if !options.Stdout && !options.Stderr {
		problems = append(problems, field.Required(field.NewPath("stdout"), "ask for at least one of stdout and stderr"))
	}
	return problems
}

// insteadOf says what to do about fields that commands in sessions do not have.
var insteadOf = map[string]string{
	"target":    "the session stays on its target; leave it out",
	"container": "the session stays in its container; leave it out",
	"pod":       "the session stays in its pod; leave it out",
	"namespace": "the session stays in its pod; leave it out",
	"subsystem": "a session runs no subsystem; use the pool's exec",
	"env":       "a session keeps its environment; set it when creating the session, or export it in a command",
	"stdin":     "a command in a session has an empty input; use the pool's exec",
	"tty":       "a session has no terminal; use the pool's exec",
	"term":      "a session has no terminal; use the pool's exec",
}

// onlyPools refuses the fields that are set.
func onlyPools(root *field.Path, set map[string]bool) (problems field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			problems = append(problems, field.Forbidden(child(root, name), insteadOf[name]))
		}
	}
	return problems
}
