package registry

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// Reasons why a session ends that somebody has ended, beside those of uses.
const (
	// reasonDeleted surfaces when somebody has deleted the session.
	reasonDeleted driver.Reason = "Deleted"
	// reasonExpired surfaces when the session's ttlSeconds are over.
	reasonExpired driver.Reason = "Expired"
	// reasonIdle surfaces when it has run no command for idleTimeoutSeconds.
	reasonIdle driver.Reason = "Idle"
)

// sessions are shells that stay: create, get, list and delete. There is no watch,
// for the reasons that connections have, and no deletecollection: the namespace
// controller deletes one by one then.
type sessions struct {
	*Registry
	sessionTable
}

var (
	_ rest.Scoper               = (*sessions)(nil)
	_ rest.SingularNameProvider = (*sessions)(nil)
	_ rest.CategoriesProvider   = (*sessions)(nil)
	_ rest.Creater              = (*sessions)(nil) //nolint:misspell // it is Kubernetes' word
	_ rest.Getter               = (*sessions)(nil)
	_ rest.Lister               = (*sessions)(nil)
	_ rest.GracefulDeleter      = (*sessions)(nil)
)

// New implements rest.Storage.
func (*sessions) New() runtime.Object { return &live.Session{} }

// Destroy implements rest.Storage.
func (*sessions) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (*sessions) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (*sessions) GetSingularName() string { return "session" }

// Categories implements rest.CategoriesProvider.
func (*sessions) Categories() []string { return []string{"connpool"} }

// NewList implements rest.Lister.
func (*sessions) NewList() runtime.Object { return &live.SessionList{} }

// Get implements rest.Getter.
func (s *sessions) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	held, err := s.shells.find(request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, err
	}
	return held.describe(), nil
}

// List implements rest.Lister. It always answers in one page.
func (s *sessions) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	wanted, err := sessionSelectionOf(options)
	if err != nil {
		return nil, err
	}
	list := &live.SessionList{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "SessionList"},
		Items:    []live.Session{},
	}
	for _, held := range s.shells.all(request.NamespaceValue(ctx)) {
		if session := held.describe(); wanted.matches(session) {
			list.Items = append(list.Items, *session)
		}
	}
	slices.SortFunc(list.Items, compareSessions)
	return list, nil
}

// Delete implements rest.GracefulDeleter. The session is gone from the list at
// once, even one that has ended before: whoever deletes a namespace waits for that.
func (s *sessions) Delete(
	ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions,
) (runtime.Object, bool, error) {
	namespace := request.NamespaceValue(ctx)
	held, err := s.shells.find(namespace, name)
	if err != nil {
		return nil, false, err
	}
	session := held.describe()
	if err := mayDelete(ctx, session, validate, options); err != nil {
		return nil, false, err
	}
	s.shells.remove(held)
	by := ""
	if who, ok := request.UserFrom(ctx); ok {
		by = who.GetName()
	}
	held.end(ended(reasonDeleted, "it was deleted by "+plain(by)))
	return session, true, nil
}

// mayDelete runs the admission of a deletion, which cannot only be tried.
func mayDelete(ctx context.Context, session *live.Session, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) error {
	if options == nil {
		options = new(metav1.DeleteOptions)
	}
	if wanted := options.Preconditions; wanted != nil && wanted.UID != nil && *wanted.UID != session.UID {
		return apierrors.NewConflict(live.Resource("sessions"), session.Name,
			errors.New("the session of that name has another UID"))
	}
	return mayAct(ctx, session, validate, &metav1.CreateOptions{DryRun: options.DryRun})
}

// owns reports whether somebody is who created the session. A UID is compared only
// where both ways to the server tell it.
func owns(owner, who user.Info) bool {
	if who == nil || owner.GetName() != who.GetName() {
		return false
	}
	return owner.GetUID() == "" || who.GetUID() == "" || owner.GetUID() == who.GetUID()
}
