package session

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/use"
)

// AdmitCommand finds a session for its owner, who must be permitted to use sessions,
// and the pool. It is an exec.AdmitFunc.
func (s *Sessions) AdmitCommand(ctx context.Context, name string) (*use.Use, exec.Backend, error) {
	found, pool, err := s.findOwn(ctx, name)
	if err != nil {
		s.gate.AuditRefusedSession(ctx, name, pool, err)
		return nil, exec.Backend{}, err
	}
	u, err := s.gate.Admit(ctx, pool, "exec")
	if err != nil {
		return nil, exec.Backend{}, err
	}
	u.Session, u.Target, u.Place = name, found.info.Target, found.use.Place
	u.Figures.On(found.use.Figures.Kind())
	if err := u.Require(ctx, "sessions", name, "exec"); err != nil {
		u.AuditRefused(err)
		return nil, exec.Backend{}, err
	}
	u.Begin = s.gate.Join // the session itself is the use that counts
	return u, exec.Backend{
		Rules: exec.Rules{Forbidden: forbidden, AfterTimeout: "; the session has ended with it, create another one"},
		Scope: func(context.Context) (string, error) { return "session/" + string(found.object.UID), nil },
		Open: func(context.Context, *exec.Command) (exec.Runner, error) {
			if err := found.begin(); err != nil {
				return nil, err
			}
			return &runner{session: found, use: u, outcome: driver.NotStarted}, nil
		},
	}, nil
}

// findOwn finds a session for its owner, and the name of its pool, as far as it gets.
func (s *Sessions) findOwn(ctx context.Context, name string) (found *liveSession, pool string, err error) {
	if _, err := s.gate.Authorize(ctx, "sessions", name, "exec"); err != nil {
		return nil, "", err
	}
	if found, err = s.store.find(request.NamespaceValue(ctx), name); err != nil {
		return nil, "", err
	}
	pool = found.use.PoolName.Name
	if who, _ := request.UserFrom(ctx); !owns(found.use.User(), who) {
		return nil, pool, apierrors.NewForbidden(live.Resource("sessions"), name, errNotOwner)
	}
	return found, pool, nil
}

var errNotOwner = errors.New("only its creator may use a session, and no other user of that name; create one of your own")

// forbidden are the fields that commands in sessions do not have, and what to do instead.
var forbidden = map[string]string{
	"target":    "the session stays on its target; leave it out",
	"container": "the session stays in its container; leave it out",
	"pod":       "the session stays in its pod; leave it out",
	"targets":   "the session stays on its target; leave it out",
	"namespace": "the session stays in its pod; leave it out",
	"subsystem": "a session runs no subsystem; use the pool's exec",
	"env":       "a session keeps its environment; set it when creating the session, or export it in a command",
	"stdin":     "a command in a session has an empty input; use the pool's exec",
	"tty":       "a session has no terminal; use the pool's exec",
	"term":      "a session has no terminal; use the pool's exec",
	"spread":    "the session stays on its connection; leave it out",
}

// runner runs a command that the session has counted.
type runner struct {
	session *liveSession
	// use is the command's own, beside that of its session.
	use     *use.Use
	outcome driver.Outcome
}

// Lease implements exec.Runner. The connection is there already.
func (r *runner) Lease() use.LeaseInfo {
	info := r.session.info
	info.Acquired, info.Wait, info.Routing = live.AcquiredWarm, 0, ""
	return info
}

// Watch implements exec.Runner. A session ends with its owner's permission to use the
// pool, and a command in it also with the permission to use sessions.
func (r *runner) Watch(ctx context.Context) (watched context.Context, stop func()) {
	watched, unwatch := r.use.Watch(ctx)
	watched, cancel := context.WithCancel(watched)
	detach := context.AfterFunc(r.session.ctx, cancel)
	return watched, func() {
		detach()
		cancel()
		unwatch()
	}
}

// Run implements exec.Runner. What has not begun gives the reason of its session.
func (r *runner) Run(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	r.outcome = driver.Unknown // of a command that panics, too
	status, err := r.session.shell.Run(ctx, driver.Command{Argv: command.Argv, Shell: command.Shell}, streams.Stdout, streams.Stderr)
	r.outcome = driver.OutcomeOf(err)
	if ended := r.session.shell.Err(); ended != nil && r.outcome == driver.NotStarted {
		failure := *ended
		failure.Started = false
		return status, &failure
	}
	return status, err
}

// Close implements exec.Runner.
func (r *runner) Close() { r.session.finish(r.outcome) }
