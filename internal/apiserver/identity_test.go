package apiserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const robot = "system:serviceaccount:team:robot"

// cluster is one whose ServiceAccounts change.
type cluster struct {
	*fake.Clientset

	t *testing.T
	// down makes it answer with errors.
	down bool
	asks int
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{Clientset: fake.NewClientset(), t: t}
	c.PrependReactor("get", "serviceaccounts", func(clienttesting.Action) (bool, runtime.Object, error) {
		if c.asks++; c.down {
			return true, nil, errors.New("connection refused")
		}
		return false, nil, nil
	})
	return c
}

// recreate replaces ServiceAccount robot by one with that UID; "" only deletes it.
func (c *cluster) recreate(uid types.UID) {
	c.t.Helper()
	robots := c.CoreV1().ServiceAccounts("team")
	_ = robots.Delete(c.t.Context(), "robot", metav1.DeleteOptions{})
	if uid == "" {
		return
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "robot", UID: uid}}
	if _, err := robots.Create(c.t.Context(), account, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// answering authenticates every request as one user; no request, if that has no name.
func answering(who user.DefaultInfo) authenticator.Request {
	return authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &who}, who.Name != "", nil
	})
}

func TestEveryServiceAccountHasItsUID(t *testing.T) {
	none := user.DefaultInfo{}
	for name, test := range map[string]struct {
		front, direct user.DefaultInfo
		exists, down  bool
		// want is a UID; ok is whether the request is authenticated.
		want string
		ok   bool
	}{
		"a ServiceAccount of which kube-apiserver tells no UID":  {front: user.DefaultInfo{Name: robot}, exists: true, want: "1", ok: true},
		"a ServiceAccount of which kube-apiserver tells the UID": {front: user.DefaultInfo{Name: robot, UID: "0"}, want: "0", ok: true},
		"a ServiceAccount with a token":                          {direct: user.DefaultInfo{Name: robot, UID: "0"}, want: "0", ok: true},
		"a ServiceAccount that does not exist any more":          {front: user.DefaultInfo{Name: robot}},
		"a ServiceAccount that cannot be looked at":              {front: user.DefaultInfo{Name: robot}, exists: true, down: true},
		"another user": {front: user.DefaultInfo{Name: "alice"}, ok: true},
		"a user whose name is like that of a ServiceAccount": {front: user.DefaultInfo{Name: "system:serviceaccount:team"}, ok: true},
		"a name with a path": {front: user.DefaultInfo{Name: "system:serviceaccount:team:../x"}, ok: true},
		"no user":            {front: none, direct: none},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if test.exists {
				c.recreate("1")
			}
			c.down = test.down
			i := &identifier{front: answering(test.front), direct: answering(test.direct), accounts: newAccounts(c.CoreV1())}
			response, ok, err := i.AuthenticateRequest(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
			if ok != test.ok || ok && response.User.GetUID() != test.want {
				t.Errorf("authenticated is %v (%v), as %+v", ok, err, response)
			}
		})
	}
}

// A controller that begins anew sends a request for each of its watches at once. Each look
// of its own would be too much for kube-apiserver, and each that fails is a refused request.
func TestRequestsThatComeTogetherShareOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.recreate("1")
		c.PrependReactor("get", "serviceaccounts", func(clienttesting.Action) (bool, runtime.Object, error) {
			time.Sleep(3 * freshness)
			return false, nil, nil
		})
		i := &identifier{front: answering(user.DefaultInfo{Name: robot}), accounts: newAccounts(c.CoreV1())}
		authenticate := func() {
			response, ok, err := i.AuthenticateRequest(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
			if !ok || response.User.GetUID() != "1" {
				t.Errorf("authenticated is %v (%v), as %+v", ok, err, response)
			}
		}
		var requests sync.WaitGroup
		for range 500 {
			requests.Go(authenticate)
		}
		time.Sleep(2 * freshness)
		for range 500 { // what is being looked at was too long ago for them
			requests.Go(authenticate)
		}
		requests.Wait()
		if c.asks != 2 {
			t.Errorf("kube-apiserver was asked %d times, want twice", c.asks)
		}
	})
}

// What a request with the token of a deleted ServiceAccount may do for the 10 s in which
// answers are cached is the authorizer's matter.
func TestARecreatedServiceAccountIsAnotherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.recreate("1")
		i := &identifier{front: answering(user.DefaultInfo{Name: robot}), accounts: newAccounts(c.CoreV1())}
		uid := func() string {
			response, ok, err := i.AuthenticateRequest(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
			if !ok {
				t.Fatal(err)
			}
			return response.User.GetUID()
		}
		for range 100 {
			if got := uid(); got != "1" {
				t.Fatalf("the UID is %s", got)
			}
		}
		if c.asks != 1 {
			t.Errorf("kube-apiserver was asked %d times within %s", c.asks, freshness)
		}
		c.recreate("2")
		time.Sleep(freshness + time.Millisecond)
		if got := uid(); got != "2" {
			t.Errorf("the new one is still taken for %s", got)
		}
	})
}

func TestADeletedServiceAccountMayNothing(t *testing.T) {
	asks := func(uid string) authorizer.Attributes {
		return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: robot, UID: uid}, Verb: "create"}
	}
	for name, test := range map[string]struct {
		uid    string
		change func(*cluster)
		want   authorizer.Decision
		failed bool
	}{
		"nothing has changed":       {"1", func(*cluster) {}, authorizer.DecisionAllow, false},
		"it was deleted":            {"1", func(c *cluster) { c.recreate("") }, authorizer.DecisionDeny, false},
		"it was recreated":          {"1", func(c *cluster) { c.recreate("2") }, authorizer.DecisionDeny, false},
		"an impersonated one":       {"", func(c *cluster) { c.recreate("2") }, authorizer.DecisionAllow, false},
		"an impersonated one, gone": {"", func(c *cluster) { c.recreate("") }, authorizer.DecisionDeny, false},
		"kube-apiserver is away":    {"1", func(c *cluster) { c.down = true }, authorizer.DecisionNoOpinion, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.recreate("1")
				a := existenceAuthorizer{authorizerfactory.NewAlwaysAllowAuthorizer(), newAccounts(c.CoreV1())}
				if got, _, err := a.Authorize(t.Context(), asks(test.uid)); got != authorizer.DecisionAllow || err != nil {
					t.Fatalf("before: %v, %v", got, err)
				}
				test.change(c)
				time.Sleep(reviewCacheTTL + time.Millisecond)
				if got, _, err := a.Authorize(t.Context(), asks(test.uid)); got != test.want || (err != nil) != test.failed {
					t.Errorf("after: %v, %v", got, err)
				}
			})
		})
	}
}

// A new ServiceAccount must not suffer from what was remembered of its namesake.
func TestANewServiceAccountIsPermittedAtOnce(t *testing.T) {
	c := newCluster(t)
	c.recreate("1")
	a := existenceAuthorizer{authorizerfactory.NewAlwaysAllowAuthorizer(), newAccounts(c.CoreV1())}
	for _, uid := range []types.UID{"1", "2"} {
		c.recreate(uid)
		a.accounts.seen.Set(types.NamespacedName{Namespace: "team", Name: "robot"}, account{uid: "0", at: time.Now()}, reviewCacheTTL)
		who := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: robot, UID: string(uid)}}
		if got, _, err := a.Authorize(t.Context(), who); got != authorizer.DecisionAllow {
			t.Errorf("%s: %v, %v", uid, got, err)
		}
	}
}

func TestOnlyKubeAPIServerChoosesTheIDOfARequest(t *testing.T) {
	for name, test := range map[string]struct {
		front user.DefaultInfo
		keeps bool
	}{
		"past kube-apiserver": {user.DefaultInfo{Name: "alice"}, true},
		"directly":            {user.DefaultInfo{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := audit.WithAuditContext(context.WithoutCancel(t.Context()))
			audit.WithAuditID(ctx, "chosen")
			i := &identifier{front: answering(test.front), direct: answering(user.DefaultInfo{Name: "bob"})}
			if _, ok, err := i.AuthenticateRequest(httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)); !ok {
				t.Fatal(err)
			}
			if id := audit.GetAuditIDTruncated(ctx); id == "" || (id == "chosen") != test.keeps {
				t.Errorf("the ID is %q", id)
			}
		})
	}
}
