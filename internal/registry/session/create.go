package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/settle"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
	shells "github.com/connpool/connpool/internal/session"
)

// maxLabels bounds what is kept of what the creator sends.
const maxLabels = 32

// Create opens the shell of a session.
func (s *Sessions) Create(
	ctx context.Context, object runtime.Object, admit rest.ValidateObjectFunc, options *metav1.CreateOptions,
) (runtime.Object, error) {
	wanted := object.(*live.Session) //nolint:forcetypeassert // New made it
	wanted.Namespace = request.NamespaceValue(ctx)
	if err := refusal.RunAdmission(ctx, wanted, admit, options); err != nil {
		return nil, err
	}
	if problems := validateSession(wanted); len(problems) > 0 {
		return nil, refusal.Invalid(problems)
	}
	u, err := s.gate.Admit(ctx, wanted.Spec.Pool, "exec")
	if err != nil {
		return nil, err
	}
	u.Span.Name("connpool.session")
	defer u.EndSpan()
	u.Transport, u.Session = "json", wanted.Name
	opened, err := s.open(ctx, u, wanted)
	if err != nil {
		u.AuditRefused(err)
		return nil, err
	}
	return opened.describe(), nil
}

// open counts the use, reserves the name, takes a lease and starts the shell.
func (s *Sessions) open(ctx context.Context, u *use.Use, wanted *live.Session) (*liveSession, error) {
	release, err := u.Begin()
	if err != nil {
		return nil, err
	}
	opened := newSession(u, wanted, release)
	if err := s.store.reserve(opened); err != nil {
		opened.cancel()
		release()
		return nil, err
	}
	u.Session = opened.object.Name
	if err := opened.start(ctx); err != nil {
		s.store.remove(opened)
		opened.cancel()
		release()
		return nil, err
	}
	opened.audit("session started")
	opened.record = u.RecordSession(opened.info)
	opened.supervise(func() { s.store.markEnded(opened) }) //nolint:contextcheck // the session outlives its request
	if tooLate := s.store.opened(opened); tooLate {
		opened.endWhenIdle()
	}
	return opened, nil
}

func newSession(u *use.Use, wanted *live.Session, release func()) *liveSession {
	spec := wanted.Spec
	spec.TTLSeconds = cmp.Or(spec.TTLSeconds, live.DefaultSessionTTLSeconds)
	spec.IdleTimeoutSeconds = cmp.Or(spec.IdleTimeoutSeconds, live.DefaultSessionIdleTimeoutSeconds)
	now := time.Now()
	created := &liveSession{use: u, release: release, created: now, env: spec.Env}
	spec.Env = nil // it may hold secrets, and the client need not get it back
	created.object = live.Session{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Session"},
		ObjectMeta: metav1.ObjectMeta{
			Name: wanted.Name, GenerateName: wanted.GenerateName, Namespace: u.PoolName.Namespace, Labels: wanted.Labels,
			UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(now),
		},
		Spec: spec,
		Status: live.SessionStatus{
			Owner: u.UserName(), ExpirationTime: new(metav1.NewTime(now.Add(seconds(spec.TTLSeconds)))),
		},
	}
	if wanted.Name == "" && wanted.GenerateName == "" {
		created.object.GenerateName = spec.Pool + "-"
	}
	created.ctx, created.cancel = context.WithCancel(context.Background())
	return created
}

// start starts the shell on a lease, or on another one if the server refuses the channel.
func (s *liveSession) start(ctx context.Context) error {
	spec := &s.object.Spec
	s.use.Target = spec.Target
	asked := driver.Place{Container: spec.Container, Pod: spec.Pod, Namespace: spec.Namespace}
	s.use.Place = asked
	root := field.NewPath("spec")
	route, err := s.use.Route(ctx, root.Child("target"), spec.Target)
	if err != nil {
		return err
	}
	for refusals := 0; ; refusals++ {
		lease, err := s.use.Lease(ctx, route, validate.Place(root, asked))
		if err != nil {
			return err
		}
		if s.use.Place, err = settle.Place(ctx, s.use, root, lease, asked); err != nil {
			return err
		}
		shell, err := s.startOn(ctx, lease)
		if err == nil {
			s.shell, s.lease, s.info, s.env = shell, lease, route.LeaseInfo(lease), nil
			s.object.Status.Target, s.object.Status.Connection = s.info.Target, s.info.Connection
			if asked.Container == "" {
				s.object.Status.Container = s.use.Place.Container
			}
			return nil
		}
		s.use.Gate.Config.Pools.Return(lease, err)
		if refusals == poolset.MaxSessionRefusals || driver.AsError(err).Reason != driver.SessionLimit {
			return noShell(lease.Target, err)
		}
	}
}

// startOn starts the shell on a lease, which stays the caller's.
func (s *liveSession) startOn(ctx context.Context, lease poolset.Lease) (*shells.Shell, error) {
	execer, ok := lease.Conn().(driver.Execer)
	if !ok {
		return nil, &driver.Error{
			Reason: driver.ProtocolError, Stage: driver.StageSession,
			Message: "targets of this kind run no commands; choose another target",
		}
	}
	// The shell outlives the request, so it must not keep the values of its context.
	starting, stop := context.WithCancel(s.ctx)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return shells.Start(starting, execer, s.use.Place, s.env) //nolint:contextcheck // see above
}

// noShell refuses a session. A failure that the request may have caused is a 400.
func noShell(target poolset.Ref, err error) error {
	failure, with := driver.AsError(err), refusal.Unavailable
	if slices.Contains([]driver.Reason{driver.ProtocolError, driver.NotFound, driver.Forbidden}, failure.Reason) {
		with = refusal.BadRequest
	}
	return refusal.NotStarted(with, string(failure.Reason), fmt.Sprintf("no session on target %s: %s", target.Name, failure.Error()))
}

func validateSession(s *live.Session) field.ErrorList {
	root := field.NewPath("spec")
	problems := validateMetadataName(s)
	if len(s.Labels) > maxLabels {
		problems = append(problems, field.TooMany(field.NewPath("metadata", "labels"), len(s.Labels), maxLabels))
	}
	problems = append(problems, metav1validation.ValidateLabels(s.Labels, field.NewPath("metadata", "labels"))...)
	if s.Spec.Pool == "" {
		problems = append(problems, field.Required(root.Child("pool"), "name the pool whose connection the session uses"))
	}
	problems = append(problems, validate.Environment(root.Child("env"), s.Spec.Env)...)
	problems = append(problems, validateSeconds(root.Child("ttlSeconds"), s.Spec.TTLSeconds)...)
	return append(problems, validateSeconds(root.Child("idleTimeoutSeconds"), s.Spec.IdleTimeoutSeconds)...)
}

func validateMetadataName(s *live.Session) (problems field.ErrorList) {
	at, name := field.NewPath("metadata", "name"), s.Name
	if name == "" {
		if s.GenerateName == "" {
			return nil
		}
		at, name = field.NewPath("metadata", "generateName"), names.SimpleNameGenerator.GenerateName(s.GenerateName)
	}
	return validate.Name(at, name, validation.IsDNS1123Subdomain)
}

func validateSeconds(at *field.Path, value int32) field.ErrorList {
	if value >= 0 && value <= live.MaxSessionTTLSeconds {
		return nil
	}
	return field.ErrorList{field.Invalid(at, value, fmt.Sprintf(
		"must be between 1 and %d, or 0 for the default", live.MaxSessionTTLSeconds))}
}
