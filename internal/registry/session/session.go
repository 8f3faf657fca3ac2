// Package session is the sessions of the live API: shells that stay on a leased
// connection and run the commands of their creator, one after the other.
//
//	sessions := session.New(gate)
//	storage["sessions"] = sessions
//	storage["sessions/exec"] = commands.Storage(sessions.AdmitCommand)
//
// A session is one use of its pool, with one lease, and the limits count it, not the
// commands in it. It ends when it is deleted, when its time is over, when it has been idle
// for too long, when its creator loses the permission, or with its shell or connection.
//
// Trade-offs: sessions live in the memory of this process and end with it. An ended
// session is listed for ten more minutes, so that its user can read why it ended.
package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/list"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

// Sessions is the REST storage of sessions: create, get, list and delete. There is
// no watch, because sessions change often, and no deletecollection: without it, the
// namespace controller deletes sessions one by one.
type Sessions struct {
	list.Resource[*live.Session]

	*store

	gate *use.Gate
}

var (
	_ rest.Creater         = (*Sessions)(nil) //nolint:misspell // it is Kubernetes' word
	_ rest.Getter          = (*Sessions)(nil)
	_ rest.Lister          = (*Sessions)(nil)
	_ rest.GracefulDeleter = (*Sessions)(nil)
)

// New returns the storage, without any session.
func New(gate *use.Gate) *Sessions {
	return &Sessions{Resource: resource, gate: gate, store: newStore()}
}

// Get implements rest.Getter.
func (s *Sessions) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	found, err := s.store.find(request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, err
	}
	return found.describe(), nil
}

// List implements rest.Lister. It always answers in one page.
func (s *Sessions) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	wants, err := s.Select(options)
	if err != nil {
		return nil, err
	}
	all := &live.SessionList{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "SessionList"},
		Items:    []live.Session{},
	}
	for _, found := range s.store.all(request.NamespaceValue(ctx)) {
		if session := found.describe(); wants(session) {
			all.Items = append(all.Items, *session)
		}
	}
	slices.SortFunc(all.Items, func(a, b live.Session) int { return list.Compare(&a, &b) })
	return all, nil
}

// Delete implements rest.GracefulDeleter. The session is gone from the list at once,
// even one that has ended before: the namespace controller waits for that.
func (s *Sessions) Delete(
	ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions,
) (runtime.Object, bool, error) {
	found, err := s.store.find(request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, false, err
	}
	session := found.describe()
	if err := mayDelete(ctx, session, validate, options); err != nil {
		return nil, false, err
	}
	s.store.remove(found)
	found.delete(use.UserOf(ctx))
	return session, true, nil
}

// mayDelete runs the admission of a deletion. There are no dry runs.
func mayDelete(ctx context.Context, session *live.Session, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) error {
	if options == nil {
		options = new(metav1.DeleteOptions)
	}
	if wanted := options.Preconditions; wanted != nil && wanted.UID != nil && *wanted.UID != session.UID {
		return apierrors.NewConflict(live.Resource("sessions"), session.Name,
			errors.New("the session of that name has another UID"))
	}
	return refusal.RunAdmission(ctx, session, validate, &metav1.CreateOptions{DryRun: options.DryRun})
}

// owns reports whether a user is the owner of a session, and no other of that name. An
// unknown UID is not equal to a known one: the user may have been created anew.
func owns(owner, who user.Info) bool {
	return who != nil && owner.GetName() == who.GetName() && owner.GetUID() == who.GetUID()
}

var resource = list.Resource[*live.Session]{
	Singular: "session", Plural: "sessions", Object: &live.Session{}, List: &live.SessionList{},
	Columns: []list.Column[*live.Session]{
		list.Text("Name", 0, "Name of the session", func(s *live.Session, _ time.Time) any { return s.Name }),
		list.Text("Pool", 0, "Pool whose connection it uses", func(s *live.Session, _ time.Time) any { return s.Spec.Pool }),
		list.Text("Target", 0, "Target on which its shell runs", func(s *live.Session, _ time.Time) any { return s.Status.Target }),
		list.Text("State", 0, "Ready, Busy, or the reason why it ended", stateOf),
		list.Text("Owner", 0, "Who created it, and who alone may use it", func(s *live.Session, _ time.Time) any { return s.Status.Owner }),
		list.Number("Commands", "Commands that have been run in it", func(s *live.Session, _ time.Time) any {
			return s.Status.CommandCount
		}),
		list.Text("Last-Used", 0, "How long ago a command ended", func(s *live.Session, now time.Time) any {
			return ago(now, s.Status.LastUsedTime)
		}),
		list.Text("Expires", 0, "When it ends, whatever it does", expires),
		list.Text("Age", 0, "How long ago it was created", func(s *live.Session, now time.Time) any {
			return ago(now, &s.CreationTimestamp)
		}),
		list.Text("Place", 1, "Container or pod in which its shell runs", placeIn),
		list.Text("Connection", 1, "Connection that it uses", func(s *live.Session, _ time.Time) any { return s.Status.Connection }),
		list.Text("Message", 1, "Why it ended, and the next step", func(s *live.Session, _ time.Time) any { return s.Status.Message }),
	},
	Fields: []list.Field[*live.Session]{
		{Name: "metadata.name", Value: func(s *live.Session) string { return s.Name }},
		{Name: "metadata.namespace", Value: func(s *live.Session) string { return s.Namespace }},
		{Name: live.FieldPool, Value: func(s *live.Session) string { return s.Spec.Pool }},
		{Name: live.FieldTarget, Value: func(s *live.Session) string { return s.Status.Target }},
		{Name: live.FieldState, Value: func(s *live.Session) string { return string(s.Status.State) }},
	},
}

func stateOf(s *live.Session, _ time.Time) any {
	if s.Status.State == live.SessionEnded {
		return s.Status.Reason
	}
	return string(s.Status.State)
}

func ago(now time.Time, then *metav1.Time) string {
	if then == nil {
		return "<none>"
	}
	return duration.HumanDuration(now.Sub(then.Time))
}

func expires(s *live.Session, now time.Time) any {
	if s.Status.State == live.SessionEnded || s.Status.ExpirationTime == nil {
		return "<none>"
	}
	return "in " + duration.HumanDuration(s.Status.ExpirationTime.Sub(now))
}

func placeIn(s *live.Session, _ time.Time) any {
	spec := &s.Spec
	place := cmp.Or(spec.Container, s.Status.Container)
	if spec.Pod != "" {
		place = spec.Pod
		if spec.Namespace != "" {
			place = spec.Namespace + "/" + place
		}
		if spec.Container != "" {
			place += ":" + spec.Container
		}
	}
	if place == "" {
		return "<none>"
	}
	return place
}
