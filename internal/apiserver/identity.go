package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/connpool/connpool/internal/apiserver/outage"
)

const (
	// freshness is how old the UID of a ServiceAccount may be that a request is given. A
	// request that comes sooner after its ServiceAccount was created anew, and that
	// brings no UID, is taken for one of its namesake.
	freshness = time.Second
	// accountTimeout bounds one look at a ServiceAccount.
	accountTimeout = 10 * time.Second
)

// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get

// accounts knows which ServiceAccounts there are, by asking kube-apiserver. It is safe
// for concurrent use.
type accounts struct {
	client corev1.ServiceAccountsGetter
	// seen has what was seen of each, by its name, for reviewCacheTTL.
	seen *cache.Expiring
	// looks are those that run, by name. Those who ask for the same at the same time share
	// one: a controller that begins anew sends thousands of requests at once.
	looks singleflight.Group
}

func newAccounts(client corev1.ServiceAccountsGetter) *accounts {
	return &accounts{client: client, seen: cache.NewExpiring()}
}

// account is what was seen of a ServiceAccount. A missing one has no UID.
type account struct {
	uid types.UID
	at  time.Time
}

// uid returns the UID of a ServiceAccount, as it was at most maxAge ago. It is empty if
// there was none.
func (a *accounts) uid(ctx context.Context, name types.NamespacedName, maxAge time.Duration) (types.UID, error) {
	since := time.Now().Add(-maxAge)
	if known, ok := a.seen.Get(name); ok && maxAge > 0 {
		if seen, ok := known.(account); ok && !seen.at.Before(since) {
			return seen.uid, nil
		}
	}
	seen, err := a.look(ctx, name)
	if err == nil && seen.at.Before(since) { // it had begun before; one that begins now has not
		seen, err = a.look(ctx, name)
	}
	return seen.uid, err
}

// look asks kube-apiserver, or waits for the answer to one who has asked already.
func (a *accounts) look(ctx context.Context, name types.NamespacedName) (account, error) {
	looked := a.looks.DoChan(name.String(), func() (any, error) {
		looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), accountTimeout)
		defer cancel()
		seen := account{at: time.Now()}
		found, err := a.client.ServiceAccounts(name.Namespace).Get(looking, name.Name, metav1.GetOptions{})
		switch {
		case err == nil:
			seen.uid = found.UID
		case !apierrors.IsNotFound(err):
			return account{}, fmt.Errorf("look at ServiceAccount %s: %w", name, err)
		}
		a.seen.Set(name, seen, reviewCacheTTL)
		return seen, nil
	})
	select {
	case result := <-looked:
		seen, _ := result.Val.(account)
		return seen, result.Err
	case <-ctx.Done():
		return account{}, fmt.Errorf("look at ServiceAccount %s: %w", name, ctx.Err())
	}
}

// isGone reports whether a user is a ServiceAccount that does not exist any more. Another
// one of that name does not count, unless it is not known which one the user is.
func (a *accounts) isGone(ctx context.Context, who user.Info) (bool, error) {
	name, ok := accountOf(who)
	if !ok {
		return false, nil
	}
	for _, maxAge := range []time.Duration{reviewCacheTTL, 0} { // "gone" needs an answer of now
		uid, err := a.uid(ctx, name, maxAge)
		if err != nil || uid != "" && (who.GetUID() == "" || who.GetUID() == string(uid)) {
			return false, err
		}
	}
	return true, nil
}

// accountOf returns the ServiceAccount that a user is, if it is one.
func accountOf(who user.Info) (name types.NamespacedName, ok bool) {
	namespace, short, err := serviceaccount.SplitUsername(who.GetName())
	return types.NamespacedName{Namespace: namespace, Name: short}, err == nil
}

// identifier says who sends a request: another authenticator's answer, in which every
// ServiceAccount has a UID. kube-apiserver does not pass UIDs on, unless it runs with
// --requestheader-uid-headers.
type identifier struct {
	// front knows what kube-apiserver passes on, and direct all else.
	front, direct authenticator.Request
	accounts      *accounts
}

// AuthenticateRequest implements authenticator.Request.
func (i *identifier) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	response, ok, err := i.front.AuthenticateRequest(req)
	if !ok {
		// Only kube-apiserver may choose the ID under which the audit has a request.
		audit.WithAuditID(req.Context(), uuid.NewUUID())
		var directErr error
		if response, ok, directErr = i.direct.AuthenticateRequest(req); !ok {
			if outage.Is(directErr) {
				outage.Note(req.Context())
			}
			return nil, false, errors.Join(err, directErr)
		}
	}
	identified, err := i.identify(req.Context(), response.User)
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{Audiences: response.Audiences, User: identified}, true, nil
}

func (i *identifier) identify(ctx context.Context, who user.Info) (user.Info, error) {
	name, ok := accountOf(who)
	if !ok || who.GetUID() != "" {
		return who, nil
	}
	uid, err := i.accounts.uid(ctx, name, freshness)
	switch {
	case err != nil:
		outage.Note(ctx)
		return nil, err
	case uid == "":
		return nil, fmt.Errorf("there is no ServiceAccount %s", name)
	}
	return &user.DefaultInfo{Name: who.GetName(), UID: string(uid), Groups: who.GetGroups(), Extra: who.GetExtra()}, nil
}

// existenceAuthorizer permits what another authorizer permits, but nothing to a
// ServiceAccount that was deleted: its RoleBindings are still there.
type existenceAuthorizer struct {
	authorizer.Authorizer

	accounts *accounts
}

// Authorize implements authorizer.Authorizer.
func (a existenceAuthorizer) Authorize(ctx context.Context, request authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := a.Authorizer.Authorize(ctx, request)
	if decision != authorizer.DecisionAllow {
		return decision, reason, err
	}
	switch gone, err := a.accounts.isGone(ctx, request.GetUser()); {
	case err != nil:
		return authorizer.DecisionNoOpinion, "", err
	case gone:
		return authorizer.DecisionDeny, "its ServiceAccount was deleted", nil
	}
	return decision, reason, nil
}
