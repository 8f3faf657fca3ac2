package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/apiserver/outage"
)

// failing authenticates no request, with an error of the second of two authenticators.
func failing(err error) authenticator.Request {
	return union.New(answering(user.DefaultInfo{}), authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return nil, false, err
	}))
}

// Clients with valid credentials must learn that nothing was started, and that they may try
// again.
func TestAnAPIServerThatCannotBeAskedIsNoRefusalOfTheUser(t *testing.T) {
	unreachable := &url.Error{Op: "Post", URL: "https://127.0.0.1/", Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	alice := answering(user.DefaultInfo{Name: "alice"})
	tests := map[string]struct {
		front, direct authenticator.Request
		authorize     error
		down          bool
		want          int
	}{
		"a ServiceAccount that cannot be looked at":       {front: answering(user.DefaultInfo{Name: robot}), down: true, want: http.StatusServiceUnavailable},
		"a ServiceAccount that does not exist":            {front: answering(user.DefaultInfo{Name: robot}), want: http.StatusUnauthorized},
		"a token that cannot be reviewed":                 {direct: failing(unreachable), want: http.StatusServiceUnavailable},
		"a token whose review fails in kube-apiserver":    {direct: failing(apierrors.NewInternalError(errors.New("etcd"))), want: http.StatusServiceUnavailable},
		"a token of which kube-apiserver has too many":    {direct: failing(apierrors.NewTooManyRequestsError("wait")), want: http.StatusServiceUnavailable},
		"a token that is not valid":                       {direct: failing(errors.New("token expired")), want: http.StatusUnauthorized},
		"a review that the operator may not ask for":      {direct: failing(apierrors.NewForbidden(live.Resource("x"), "x", nil)), want: http.StatusUnauthorized},
		"no credentials":                                  {direct: failing(nil), want: http.StatusUnauthorized},
		"a permission that cannot be looked up":           {front: alice, authorize: unreachable, want: http.StatusServiceUnavailable},
		"a permission that the user has, and a failure":   {front: alice, want: http.StatusInternalServerError},
		"a permission of a ServiceAccount that is unseen": {front: answering(user.DefaultInfo{Name: robot, UID: "1"}), down: true, want: http.StatusServiceUnavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.down = test.down
			for _, unset := range []*authenticator.Request{&test.front, &test.direct} {
				if *unset == nil {
					*unset = answering(user.DefaultInfo{})
				}
			}
			known := newAccounts(c.CoreV1())
			code, header, status := admit(t, &identifier{front: test.front, direct: test.direct, accounts: known}, auditingAuthorizer{
				existenceAuthorizer{deciding(test.authorize), known}, logr.Discard(),
			})
			if code != test.want || int(status.Code) != test.want {
				t.Fatalf("status %d, want %d: %+v", code, test.want, status)
			}
			if undecided := test.want == http.StatusServiceUnavailable; undecided != (causeOf(status) == string(live.OutcomeNotStarted)) {
				t.Errorf("it says %+v", status)
			}
			if header.Get("Retry-After") != "" {
				t.Error("clients send it again on their own")
			}
		})
	}
}

// deciding permits, or fails with an error.
func deciding(err error) authorizer.Authorizer {
	return authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		if err != nil {
			return authorizer.DecisionNoOpinion, "", err
		}
		return authorizer.DecisionAllow, "", nil
	})
}

func causeOf(status *metav1.Status) string {
	if status.Details == nil || status.Details.RetryAfterSeconds == 0 {
		return ""
	}
	return status.Details.Causes[0].Message
}

// admit sends a request to the generic server's handlers that admit it, before an API that fails.
func admit(t *testing.T, who authenticator.Request, may authorizer.Authorizer) (int, http.Header, *metav1.Status) {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	codecs := serializer.NewCodecFactory(scheme)
	var next http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "it broke")
	})
	next = filters.WithAuthorization(next, may, codecs)
	next = filters.WithAuthentication(next, who, filters.Unauthorized(codecs), nil, nil)
	next = filters.WithRequestInfo(next, &request.RequestInfoFactory{APIPrefixes: sets.NewString("apis"), GrouplessAPIPrefixes: sets.NewString()})
	server := httptest.NewServer(outage.Answer(next))
	t.Cleanup(server.Close)
	asked, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/apis/live.connpool.dev/v1alpha1/namespaces/default/connectionpools/web/exec", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	status := &metav1.Status{}
	if err := json.NewDecoder(response.Body).Decode(status); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, status
}
