package watched

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// server is kube-apiserver for one informer. It has one Secret.
type server struct{ permits atomic.Bool }

func (s *server) refusal() error {
	if s.permits.Load() {
		return nil
	}
	return apierrors.NewForbidden(corev1.Resource("secrets"), "", nil)
}

func (s *server) ListWithContext(context.Context, metav1.ListOptions) (runtime.Object, error) {
	secret := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "token", ResourceVersion: "7"}}
	return &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: []corev1.Secret{secret}}, s.refusal()
}

func (s *server) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if err := s.refusal(); err != nil || options.SendInitialEvents != nil {
		return nil, apierrors.NewForbidden(corev1.Resource("secrets"), "", err)
	}
	events := make(chan watch.Event)
	time.AfterFunc(time.Minute, func() { close(events) }) // as kube-apiserver ends watches
	return watch.NewProxyWatcher(events), nil
}

func (s *server) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

func (s *server) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

func TestWhatMayNotBeReadCountsAsNoneUntilItMay(t *testing.T) {
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil                         //nolint:reassign // they sleep until a time outside of the bubble
	defer func() { utilruntime.ErrorHandlers = handlers }() //nolint:reassign // as above
	synctest.Test(t, func(t *testing.T) {
		api := &server{}
		informer := NewInformer(api, &corev1.Secret{}, 0, cache.Indexers{})
		ctx, cancel := context.WithCancel(t.Context())
		go informer.RunWithContext(ctx)
		knows := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := len(informer.GetStore().List()); !informer.HasSynced() || got != want {
				t.Errorf("synced %t, %d Secrets, want %d", informer.HasSynced(), got, want)
			}
		}
		knows(5*time.Second, 0)
		knows(time.Hour, 0)
		api.permits.Store(true)
		knows(2*reviewPeriod, 1)
		api.permits.Store(false) // a Role that is taken away must not look like deleted Secrets
		knows(time.Hour, 1)
		cancel()
		synctest.Wait()
	})
}

// reviewing returns the namespaces a and b, and what is logged. In b it may not list Secrets,
// until permitted is set.
func reviewing(t *testing.T) (n *Namespaces, permitted *atomic.Bool, logged *strings.Builder) {
	t.Helper()
	permitted, logged = &atomic.Bool{}, &strings.Builder{}
	api := fake.NewClientset()
	api.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		asked := review.Spec.ResourceAttributes
		review.Status.Allowed = permitted.Load() || asked.Namespace != "b" || asked.Resource != "secrets" || asked.Verb != "list"
		return true, review, nil
	})
	return &Namespaces{
		names: []string{"a", "b"}, reviews: api.AuthorizationV1().SelfSubjectAccessReviews(), missing: map[string][]right{},
	}, permitted, logged
}

func TestARightThatIsMissingIsLoggedOnceAndAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, permitted, logged := reviewing(t)
		lines := 0
		ctx := intoContext(t.Context(), func(_, line string) { lines++; logged.WriteString(line) })
		n.Review(ctx)
		ended := make(chan error)
		go func() { ended <- n.Start(ctx) }()
		time.Sleep(time.Hour)
		if lines != 1 || !strings.Contains(logged.String(), "list secrets") || !strings.Contains(logged.String(), `"b"`) {
			t.Errorf("%d lines, want one that names the right and the namespace: %s", lines, logged)
		}
		permitted.Store(true)
		if err := <-ended; err != nil || lines != 2 {
			t.Errorf("%d lines, error %v, want another line and the end", lines, err)
		}
		if reason, _ := n.Problem("b"); reason != "" {
			t.Errorf("namespace b is refused for %s", reason)
		}
	})
}

func TestRequestsInNamespacesThatAreNotServedAreRefused(t *testing.T) {
	n, _, _ := reviewing(t)
	n.Review(t.Context())
	whole := &Namespaces{}
	tests := map[string]struct {
		in         *Namespaces
		info       request.RequestInfo
		code       int
		says, logs string
	}{
		"a served one":                 {n, request.RequestInfo{Namespace: "a", Resource: "connectionpools", Verb: "create"}, 200, "", ""},
		"all of them":                  {n, request.RequestInfo{Resource: "connections", Verb: "list"}, 200, "", ""},
		"any, in the whole cluster":    {whole, request.RequestInfo{Namespace: "c", Resource: "connections", Verb: "list"}, 200, "", ""},
		"a use in another one":         {n, request.RequestInfo{Namespace: "c", Resource: "connectionpools", Subresource: "exec", Verb: "create"}, 404, live.ReasonNamespaceNotWatched, `"c"`},
		"a list in another one":        {n, request.RequestInfo{Namespace: "c", Resource: "connections", Verb: "list"}, 404, "--watch-namespaces", ""},
		"a list without the Role":      {n, request.RequestInfo{Namespace: "b", Resource: "connections", Verb: "list"}, 503, "may not list secrets", ""},
		"sessions, before its removal": {n, request.RequestInfo{Namespace: "c", Resource: "sessions", Verb: "list"}, 200, "", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var logged strings.Builder
			log := funcr.New(func(_, line string) { logged.WriteString(line) }, funcr.Options{})
			req, answer := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody), httptest.NewRecorder()
			tc.info.IsResourceRequest = true
			ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
			tc.in.Refuse(log, ok).ServeHTTP(answer, req.WithContext(request.WithRequestInfo(req.Context(), &tc.info)))
			if answer.Code != tc.code || !strings.Contains(answer.Body.String(), tc.says) {
				t.Errorf("answer %d %s, want %d with %q", answer.Code, answer.Body, tc.code, tc.says)
			}
			if !strings.Contains(logged.String(), tc.logs) || tc.logs == "" && logged.Len() > 0 {
				t.Errorf("logged %q, want %q", logged.String(), tc.logs)
			}
		})
	}
}

func intoContext(ctx context.Context, write func(prefix, line string)) context.Context {
	return logr.NewContext(ctx, funcr.New(write, funcr.Options{}))
}
