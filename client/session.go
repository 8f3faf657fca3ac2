package client

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// SessionOptions are where the shell of a session runs, and for how long. The zero
// value is a shell on any target of the pool, for an hour.
type SessionOptions struct {
	// Name of the session; if it is empty, the operator chooses one.
	Name string
	// Target of the pool; as in Command.
	Target string
	// Container, Pod and the pod's Namespace; as in Command.
	Container, Pod, Namespace string
	// Env is given to the shell.
	Env map[string]string
	// TTL after which the session ends, even while a command runs, rounded up to
	// seconds. An hour when 0, at most a day.
	TTL time.Duration
	// IdleTimeout is the time without a command after which the session ends, rounded
	// up to seconds. 10 minutes when 0, at most a day.
	IdleTimeout time.Duration
}

// Session is a shell that stays. Its commands run one after the other, and share its
// directory, environment and functions. Only its creator may use it. It is safe for
// concurrent use.
type Session struct {
	client    *Client
	namespace string
	name      string
	target    string
	container string
}

// NewSession opens a session through a pool of the namespace. An error is an *Error:
// ErrNotStarted if there is no session, ErrUnknown if there may be one. That ends by
// itself after its IdleTimeout.
func (c *Client) NewSession(ctx context.Context, namespace, pool string, options SessionOptions) (*Session, error) {
	if err := checkNames(namespace, pool); err != nil {
		return nil, notStarted(err)
	}
	if command := (Command{Env: options.Env}); !command.IsText() {
		return nil, notStarted(ErrNoText)
	}
	var session live.Session
	if err := c.create(ctx, c.resource(namespace, "sessions"), options.session(namespace, pool), &session); err != nil {
		return nil, err
	}
	opened := c.Session(namespace, session.Name)
	opened.target, opened.container = session.Status.Target, session.Status.Container
	return opened, nil
}

// session returns the options as an object of the API.
func (o *SessionOptions) session(namespace, pool string) *live.Session {
	return &live.Session{
		TypeMeta:   typeMeta("Session"),
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.Name},
		Spec: live.SessionSpec{
			Pool: pool, Target: o.Target, Container: o.Container, Pod: o.Pod, Namespace: o.Namespace, Env: o.Env,
			TTLSeconds: wholeSeconds(o.TTL), IdleTimeoutSeconds: wholeSeconds(o.IdleTimeout),
		},
	}
}

// wholeSeconds rounds up, so that a short time does not become 0. The server checks
// the bounds.
func wholeSeconds(d time.Duration) int32 {
	return int32(min(math.Ceil(d.Seconds()), math.MaxInt32))
}

// Session returns a session that exists already. It does no I/O.
func (c *Client) Session(namespace, name string) *Session {
	return &Session{client: c, namespace: namespace, name: name}
}

// Sessions lists the sessions in a namespace, or in all of them if it is empty.
// A session that has ended stays in the list for some minutes, with the reason.
// Errors are those of the API, for the apierrors functions.
func (c *Client) Sessions(ctx context.Context, namespace string) (*live.SessionList, error) {
	return list[live.SessionList](ctx, c, namespace, "sessions", nil)
}

// Name returns the name of the session in its namespace.
func (s *Session) Name() string { return s.name }

// Container returns the container that the operator chose for a session that was opened by
// NewSession and names none; otherwise it is empty.
func (s *Session) Container() string { return s.container }

// Target returns the target of a session that was opened by NewSession; otherwise it is empty.
func (s *Session) Target() string { return s.target }

// Get returns what the session is doing now, or why it ended.
func (s *Session) Get(ctx context.Context) (*live.Session, error) {
	u, err := s.url()
	if err != nil {
		return nil, err
	}
	session := &live.Session{}
	if err := s.client.call(ctx, http.MethodGet, u, nil, session); err != nil {
		return nil, err
	}
	return session, nil
}

// Exec runs a command in the shell, after those before it, and returns its whole
// result. Of the command, Argv or Shell, Timeout and RequestID apply. The session
// determines the rest, and the input is empty. Results and errors are those of
// Pool.Exec. If the session has ended, the error is ErrNotStarted and says why.
func (s *Session) Exec(ctx context.Context, command Command) (Result, error) {
	u, err := s.execURL(command)
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	return s.client.exec(ctx, u, command)
}

// Stream runs a command as Exec does, and copies its output while it runs. There
// is no terminal.
func (s *Session) Stream(ctx context.Context, command Command, streams Streams) (Result, error) {
	u, err := s.execURL(command)
	if err == nil && streams.Terminal != nil {
		err = errors.New("a command in a session has no terminal; Pool.Stream gives one")
	}
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	return s.client.stream(ctx, u, command, streams)
}

// Delete ends the session, and the command that runs in it. If the session has
// ended already, Delete succeeds while the session is still listed, and fails with
// apierrors.IsNotFound afterwards.
func (s *Session) Delete(ctx context.Context) error {
	u, err := s.url()
	if err != nil {
		return err
	}
	return s.client.call(ctx, http.MethodDelete, u, nil, nil)
}

func (s *Session) url(subresource ...string) (*url.URL, error) {
	if err := checkNames(s.namespace, s.name); err != nil {
		return nil, err
	}
	return s.client.resource(s.namespace, append([]string{"sessions", s.name}, subresource...)...), nil
}

// execURL refuses commands with fields that the session would ignore.
func (s *Session) execURL(command Command) (*url.URL, error) {
	switch {
	case command.Target != "" || command.Container != "" || command.Pod != "" || command.Namespace != "":
		return nil, errors.New("a session stays where it was opened: the command names no target, container or pod")
	case command.Stdin != nil:
		return nil, errors.New("a command in a session has no input; Pool.Stream gives it one")
	case command.Subsystem != "":
		return nil, errors.New("a session runs no subsystem; use Pool.Stream")
	case len(command.Env) > 0:
		return nil, errors.New("a session keeps its environment: set it in SessionOptions, or export it in a command")
	}
	return s.url("exec")
}
