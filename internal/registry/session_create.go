package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/session"
)

const (
	// maxSessionLabels bounds what is kept of what the creator says.
	maxSessionLabels = 32
	// maxSessionRefusals bounds how many connections are tried whose server allows
	// fewer sessions than its pool believes. Each lowers the belief.
	maxSessionRefusals = 8
	// maxNamesTried bounds how often a name is chosen that is taken.
	maxNamesTried = 8
)

// Create opens the shell of a session.
func (s *sessions) Create(
	ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	wanted := object.(*live.Session) //nolint:forcetypeassert // New made it
	wanted.Namespace = request.NamespaceValue(ctx)
	if err := mayAct(ctx, wanted, validate, options); err != nil {
		return nil, err
	}
	if problems := validateSession(wanted); len(problems) > 0 {
		return nil, invalid(problems)
	}
	c, err := s.admit(ctx, wanted.Spec.Pool, "exec")
	if err != nil {
		return nil, err
	}
	c.transport, c.session = "json", wanted.Name
	opened, err := c.openSession(ctx, wanted)
	if err != nil {
		c.auditRefused(err)
		return nil, err
	}
	return opened.describe(), nil
}

// openSession takes a use, a name and a lease, and starts the shell.
func (c *call) openSession(ctx context.Context, wanted *live.Session) (opened *heldSession, err error) {
	leave, err := c.uses.begin(c.userName(), c.pool)
	if err != nil {
		return nil, err
	}
	held := c.newSession(wanted, leave)
	if err := c.shells.reserve(held); err != nil {
		held.cancel()
		leave()
		return nil, err
	}
	c.session = held.object.Name
	if err := c.startSession(ctx, held); err != nil {
		c.shells.remove(held)
		held.cancel()
		leave()
		return nil, err
	}
	c.auditSession("session started", held)
	held.tend() //nolint:contextcheck // the session outlives its request
	return held, nil
}

// newSession is a session without a shell.
func (c *call) newSession(wanted *live.Session, leave func()) *heldSession {
	spec := wanted.Spec
	spec.TTLSeconds = defaulted(spec.TTLSeconds, live.DefaultSessionTTLSeconds)
	spec.IdleTimeoutSeconds = defaulted(spec.IdleTimeoutSeconds, live.DefaultSessionIdleTimeoutSeconds)
	now := time.Now()
	held := &heldSession{call: c, owner: c.permission.User, leave: leave, created: now, env: spec.Env}
	spec.Env = nil // it may hold secrets, and need not come back
	held.object = live.Session{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Session"},
		ObjectMeta: metav1.ObjectMeta{
			Name: wanted.Name, GenerateName: wanted.GenerateName, Namespace: c.pool.namespace, Labels: wanted.Labels,
			UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(now),
		},
		Spec: spec,
		Status: live.SessionStatus{
			Owner: c.userName(), ExpirationTime: new(metav1.NewTime(now.Add(seconds(spec.TTLSeconds)))),
		},
	}
	if wanted.Name == "" && wanted.GenerateName == "" {
		held.object.GenerateName = spec.Pool + "-"
	}
	held.ctx, held.cancel = context.WithCancel(context.Background())
	return held
}

func defaulted(value, otherwise int32) int32 {
	if value == 0 {
		return otherwise
	}
	return value
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// startSession leases a connection and starts the shell on it.
func (c *call) startSession(ctx context.Context, held *heldSession) error {
	spec := &held.object.Spec
	c.target = spec.Target
	c.place = driver.Place{Container: spec.Container, Pod: spec.Pod, Namespace: spec.Namespace}
	pool, err := c.poolObject(ctx)
	if err != nil {
		return err
	}
	root := field.NewPath("spec")
	to, err := c.route(ctx, pool, root.Child("target"), spec.Target)
	if err != nil {
		return err
	}
	for refusals := 0; ; refusals++ {
		lease, err := c.acquireFit(ctx, to, fitPlace(root, c.place))
		if err != nil {
			return err
		}
		err = held.start(ctx, string(pool.UID), lease)
		if err == nil {
			return nil
		}
		c.Pools.Return(lease, err)
		if refusals == maxSessionRefusals || driver.AsError(err).Reason != driver.SessionLimit {
			return noShell(lease.Target, err)
		}
	}
}

// start starts the shell on a lease, which stays the caller's if that fails.
func (h *heldSession) start(ctx context.Context, pool string, lease poolset.Lease) error {
	execer, ok := lease.Conn().(driver.Execer)
	if !ok {
		return &driver.Error{
			Reason: driver.ProtocolError, Stage: driver.StageSession,
			Message: "targets of this kind run no commands; choose another target",
		}
	}
	// The shell must not keep the request alive, whose context goes with it.
	starting, stop := context.WithCancel(h.ctx)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	shell, err := session.Start(starting, execer, h.place, h.env) //nolint:contextcheck // see above
	if err != nil {
		return err
	}
	h.shell, h.lease, h.held, h.env = shell, lease, h.holding(pool, lease), nil
	h.object.Status.Target, h.object.Status.Connection = h.held.target, h.held.connection
	return nil
}

// noShell refuses a session. What the request may have chosen wrongly is a 400.
func noShell(target poolset.Ref, err error) error {
	failure, with := driver.AsError(err), unavailable
	if slices.Contains([]driver.Reason{driver.ProtocolError, driver.NotFound, driver.Forbidden}, failure.Reason) {
		with = badRequest
	}
	return refusedBeforeStart(with, string(failure.Reason), fmt.Sprintf("no session on target %s: %s", target.Name, failure.Error()))
}

// validateSession returns what is wrong with a session that is to be created.
func validateSession(s *live.Session) field.ErrorList {
	root := field.NewPath("spec")
	problems := validateSessionName(s)
	if len(s.Labels) > maxSessionLabels {
		problems = append(problems, field.TooMany(field.NewPath("metadata", "labels"), len(s.Labels), maxSessionLabels))
	}
	problems = append(problems, metav1validation.ValidateLabels(s.Labels, field.NewPath("metadata", "labels"))...)
	if s.Spec.Pool == "" {
		problems = append(problems, field.Required(root.Child("pool"), "name the pool whose connection the session uses"))
	}
	problems = append(problems, validateEnvironment(root.Child("env"), s.Spec.Env)...)
	problems = append(problems, validateSeconds(root.Child("ttlSeconds"), s.Spec.TTLSeconds)...)
	return append(problems, validateSeconds(root.Child("idleTimeoutSeconds"), s.Spec.IdleTimeoutSeconds)...)
}

func validateSessionName(s *live.Session) (problems field.ErrorList) {
	at, name := field.NewPath("metadata", "name"), s.Name
	if name == "" {
		if s.GenerateName == "" {
			return nil
		}
		at, name = field.NewPath("metadata", "generateName"), names.SimpleNameGenerator.GenerateName(s.GenerateName)
	}
	return validateName(at, name, validation.IsDNS1123Subdomain)
}

func validateSeconds(at *field.Path, value int32) field.ErrorList {
	if value >= 0 && value <= live.MaxSessionTTLSeconds {
		return nil
	}
	return field.ErrorList{field.Invalid(at, value, fmt.Sprintf(
		"must be between 1 and %d, or 0 for the default", live.MaxSessionTTLSeconds))}
}

// taken says that there is a session of that name.
func taken(name types.NamespacedName) error {
	return apierrors.NewAlreadyExists(live.Resource("sessions"), name.Name)
}
