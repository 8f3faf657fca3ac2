package connectiontarget

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/gitops"
)

// health is how GitOps controllers show an object: Flux, and Argo CD.
type health struct{ flux, argo string }

func (h health) String() string {
	if h == none {
		return ""
	}
	return h.flux + " / " + h.argo
}

// The four healths that objects have. Flux has no word for what is suspended.
var (
	good      = health{"Current", "Healthy"}
	underWay  = health{"InProgress", "Progressing"}
	bad       = health{"Failed", "Degraded"}
	suspended = health{"InProgress", "Suspended"}
	none      health
)

// healths are those of a target and of its pool in a state.
type healths struct{ target, pool health }

var (
	// retried is what the operator mends by itself when the server answers again: what
	// waits for it goes on waiting, because a new host may boot for a while.
	retried = healths{underWay, underWay}
	// serves is what fails without being needed for now: users notice nothing, and an
	// alert tells of it. A rollout must not wait for the repair of one host.
	serves = healths{good, good}
	// parked is what waits for a person, so that a rollout ends at once and says why.
	parked = healths{bad, bad}
	// servesParked serves until the next restart of the operator: the change in Git, such
	// as that of a Secret, has failed, and the one who made it should know. The pool has
	// what it needs.
	servesParked = healths{bad, good}
)

const stillServes = ", still serves"

// expectedHealths has each state of the reference of conditions.
func expectedHealths() map[string]healths {
	expected := map[string]healths{
		v1alpha1.ReasonProbeFailed: retried,
		v1alpha1.ReasonCredentialsInvalid + ", refused by the server, still serves": servesParked,

		v1alpha1.ReasonWarm: serves, v1alpha1.ReasonConnected: serves, v1alpha1.ReasonCredentialsValid: serves,
		v1alpha1.ReasonJumpHost: {good, none},

		v1alpha1.ReasonPending:                            {underWay, underWay},
		v1alpha1.ReasonWarming:                            {underWay, underWay},
		v1alpha1.ReasonWarming + ", serves and gets more": {underWay, underWay},
		v1alpha1.ReasonRetrying:                           retried,
		// The change of the credentials is under way until the server has accepted them.
		v1alpha1.ReasonRotating: {underWay, good},

		// It is right to wait for a target with a pool, which comes with the same apply. One
		// without a pool is as its user wants it, and Argo CD has a way to know that.
		v1alpha1.ReasonNotSelected:       {health{"InProgress", "Healthy"}, none},
		v1alpha1.ReasonDriverUnavailable: parked,
		v1alpha1.ReasonPaused:            {suspended, suspended},
		v1alpha1.ReasonJumpTargetInvalid: parked,

		v1alpha1.ReasonDegraded:                         {none, good},
		v1alpha1.ReasonTargetsFailing:                   {none, underWay},
		v1alpha1.ReasonTargetsFailing + ", still serve": {none, good},
		// The targets may be applied after the pool.
		v1alpha1.ReasonNoTargets:       {none, underWay},
		v1alpha1.ReasonTargetNotFound:  {none, underWay},
		v1alpha1.ReasonSelectorInvalid: {none, bad},
		v1alpha1.ReasonScheduleInvalid: {none, bad},
	}
	for _, reason := range []string{
		v1alpha1.ReasonUnreachable, v1alpha1.ReasonDNSError, v1alpha1.ReasonTimeout, v1alpha1.ReasonSessionLimit,
		v1alpha1.ReasonConnectionLimit, v1alpha1.ReasonThrottledByServer, v1alpha1.ReasonProtocolError,
		v1alpha1.ReasonJumpTargetNotReady, v1alpha1.ReasonForbidden,
	} {
		expected[reason], expected[reason+stillServes] = retried, serves
	}
	for _, reason := range []string{
		v1alpha1.ReasonAuthenticationFailed, v1alpha1.ReasonHostKeyMismatch, v1alpha1.ReasonCertificateInvalid,
		v1alpha1.ReasonAddressDenied, v1alpha1.ReasonCredentialsMissing, v1alpha1.ReasonCredentialsInvalid,
		v1alpha1.ReasonHostKeysInvalid,
	} {
		expected[reason], expected[reason+stillServes] = parked, servesParked
	}
	return expected
}

// asStored returns an object as GitOps controllers get it.
func asStored(t *testing.T, kind string, object any) *unstructured.Unstructured {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: fields}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	return u
}

// healthOf computes an object's health as Flux does, and by the scripts that are shipped
// for Argo CD.
func healthOf(t *testing.T, argo *gitops.ArgoCD, kind string, object any) (computed health, message string) {
	t.Helper()
	u := asStored(t, kind, object)
	flux, err := gitops.FluxStatus(u)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := argo.Health(u)
	if err != nil {
		t.Fatal(err)
	}
	return health{flux, shown.Status}, shown.Message
}

var loadArgoCD = sync.OnceValues(func() (*gitops.ArgoCD, error) { return gitops.LoadArgoCD("../../../config/argocd") })

func argoCD(t *testing.T) *gitops.ArgoCD {
	t.Helper()
	argo, err := loadArgoCD()
	if err != nil {
		t.Fatal(err)
	}
	return argo
}

// healths are those that GitOps controllers compute from what the operator writes.
func (s scenario) healths(t *testing.T, argo *gitops.ArgoCD) healths {
	t.Helper()
	m, found := s.make(), healths{}
	var message string
	if !s.alone && !s.ofPool {
		if found.target, message = healthOf(t, argo, "ConnectionTarget", &m.target); message == "" {
			t.Errorf("Argo CD shows no message of target %s", m.target.Name)
		}
	}
	if !s.unpooled {
		if found.pool, message = healthOf(t, argo, "ConnectionPool", &m.pool); message == "" {
			t.Errorf("Argo CD shows no message of pool %s", m.pool.Name)
		}
	}
	return found
}

// A state that is new needs a row in expectedHealths, so that its health is decided by a person.
func TestGitOpsControllersComputeTheRightHealthOfEveryState(t *testing.T) {
	argo, expected := argoCD(t), expectedHealths()
	for reason, states := range scenarios() {
		for _, s := range states {
			if s.never != "" {
				continue
			}
			name := reason
			if s.state != "" {
				name += ", " + s.state
			}
			t.Run(name, func(t *testing.T) {
				want, found := expected[name]
				if !found {
					t.Fatalf("%s has no row in expectedHealths: decide what Flux and Argo CD should show", name)
				}
				if diff := cmp.Diff(want, s.healths(t, argo), cmp.AllowUnexported(healths{}, health{})); diff != "" {
					t.Errorf("(-want +computed):\n%s", diff)
				}
			})
			delete(expected, name)
		}
	}
	for name := range expected {
		t.Errorf("%s is in expectedHealths, but no scenario leads to it", name)
	}
}

// TestWhatTheOperatorHasNotSeenIsUnderWay checks that no state of an earlier spec counts,
// and that a new object, which has the defaults of its CRD, is not done.
func TestWhatTheOperatorHasNotSeenIsUnderWay(t *testing.T) {
	argo := argoCD(t)
	for reason, states := range scenarios() {
		for _, s := range states {
			m := s.make()
			m.target.Generation++
			pool := *m.pool.DeepCopy()
			pool.Generation++
			target, _ := healthOf(t, argo, "ConnectionTarget", m.target.DeepCopy())
			if of, _ := healthOf(t, argo, "ConnectionPool", &pool); target != underWay || of != underWay {
				t.Errorf("%s: with a changed spec the target is %v and the pool %v, want %v", reason, target, of, underWay)
			}
		}
	}
	unseen := new(int64(-1))
	target, pool := *sshTarget("web"), poolNamed("p")
	target.Status.ObservedGeneration, pool.Status.ObservedGeneration = unseen, unseen
	pool.Generation = 1
	if got, _ := healthOf(t, argo, "ConnectionTarget", &target); got != underWay {
		t.Errorf("a new target is %v, want %v", got, underWay)
	}
	if got, _ := healthOf(t, argo, "ConnectionPool", &pool); got != underWay {
		t.Errorf("a new pool is %v, want %v", got, underWay)
	}
}

// TestTheExpressionsForFluxDifferInWhatIsWantedAsItIs compares the expressions of the worked
// example with kstatus, which has no word for what is paused or not selected.
func TestTheExpressionsForFluxDifferInWhatIsWantedAsItIs(t *testing.T) {
	flux, err := gitops.LoadFlux("../../../config/samples/gitops/flux/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for reason, states := range scenarios() {
		for _, s := range states {
			if s.never != "" {
				continue
			}
			m := s.make()
			for kind, object := range map[string]any{"ConnectionTarget": &m.target, "ConnectionPool": &m.pool} {
				u := asStored(t, kind, object)
				want, err := gitops.FluxStatus(u)
				if err != nil {
					t.Fatal(err)
				}
				if isWantedAsItIs(u) {
					want = good.flux
				}
				if got, err := flux.Status(t.Context(), u); err != nil || got != want {
					t.Errorf("%s %s: the %s is %s, %v, want %s", reason, s.state, kind, got, err, want)
				}
			}
		}
	}
}

// isWantedAsItIs reports whether STATUS shows that an object is paused or not selected, and
// nothing else.
func isWantedAsItIs(object *unstructured.Unstructured) bool {
	summary, _, _ := unstructured.NestedString(object.Object, "status", "summary")
	return summary == v1alpha1.ReasonPaused || summary == v1alpha1.ReasonNotSelected
}
