package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/connectiontarget"
	"github.com/connpool/connpool/internal/controller/ownership"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
)

// late is a client that returns each Secret as it was when it was first read, like a
// cache whose watch has fallen behind.
type late struct {
	client.Client

	mu   sync.Mutex
	seen map[types.NamespacedName]*corev1.Secret
}

func (l *late) Get(ctx context.Context, key types.NamespacedName, object client.Object, options ...client.GetOption) error {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return l.Client.Get(ctx, key, object, options...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.seen[key]; old != nil {
		old.DeepCopyInto(secret)
		return nil
	}
	if err := l.Client.Get(ctx, key, secret, options...); err != nil {
		return err
	}
	l.seen[key] = secret.DeepCopy()
	return nil
}

// counted counts the reads from the API server itself.
type counted struct {
	client.Reader
	n int
}

func (c *counted) Get(ctx context.Context, key types.NamespacedName, object client.Object, options ...client.GetOption) error {
	c.n++
	return c.Reader.Get(ctx, key, object, options...)
}

// F24: the token of a cluster expires, and the new one is in the Secret but not yet in
// the cache.
func TestARefusedTokenIsReadPastTheCache(t *testing.T) {
	space := namespace(t)
	secret := kubeconfigSecret(space, "prod-kubeconfig", clusterConfig("https://127.0.0.1:1", "old"))
	ct := &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "prod"},
		Spec: v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{
			KubeconfigRef: v1alpha1.KeyRef{Name: secret.Name, Key: "kubeconfig"},
		}},
	}
	p := pool(space, "prod", "prod")
	create(t, secret, ct, p)

	fake := new(drivertest.Fake)
	set := poolset.New(nil, dialbudget.New(1, 1, 1))
	t.Cleanup(func() { set.Close(context.Background()) })
	api := &counted{Reader: env.client}
	r := &connectiontarget.Reconciler{
		Client: &late{Client: env.client, seen: map[types.NamespacedName]*corev1.Secret{}}, Reader: api, Pools: set,
		Drivers: connectiontarget.Drivers{v1alpha1.TargetTypeKubernetes: fake},
		Replica: "another", Ledger: new(ownership.Ledger),
		Writer: connectiontarget.NewWriter(statusless{env.client}, events.NewFakeRecorder(100),
			status.NewPace[v1alpha1.ConnectionTargetStatus](status.NewBudget())),
	}
	reconcile := func() ctrl.Result {
		t.Helper()
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(ct)})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	news := make(chan struct{}, 1)
	set.Subscribe(func(poolset.Ref) {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	serving := func(health poolset.HealthState) {
		t.Helper()
		eventually(t, 10*time.Second, fmt.Sprint("health ", health), func() (bool, string) {
			seen, _ := set.Observe(string(ct.UID))
			if len(seen.Pools) == 1 && seen.Pools[0].Health == health {
				return true, ""
			}
			select {
			case <-news: // such as that the credentials are prepared
				if health == poolset.HealthUp {
					reconcile()
				}
			default:
			}
			return false, fmt.Sprintf("%+v", seen)
		})
	}
	reconcile()
	serving(poolset.HealthUp)

	// The token is replaced. The server accepts only the new one from now on.
	change(t, secret, func(s *corev1.Secret) { s.Data["kubeconfig"] = clusterConfig("https://127.0.0.1:1", "new") })
	fresh := string(secret.Data["kubeconfig"])
	fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
		if string(e.Credentials["kubeconfig"]) == fresh {
			return nil
		}
		return &driver.Error{Reason: driver.AuthenticationFailed, Stage: driver.StageAuthentication, Message: "the token is refused"}
	})
	fake.Live()[0].Kill(&driver.Error{Reason: driver.AuthenticationFailed, Message: "401"})
	serving(poolset.HealthDown)
	refused := time.Now()
	reconcile()
	serving(poolset.HealthUp)
	if took := time.Since(refused); took > 10*time.Second {
		t.Errorf("back after %s, want 10 s", took)
	}
	for range 5 { // although the cache is still late
		reconcile()
	}
	serving(poolset.HealthUp)
	if n := len(fake.Live()); n != 1 || api.n != 1 {
		t.Errorf("%d connections and %d reads of the API server, want one each", n, api.n)
	}

	// When a token is refused and the Secret has no other one, the API server is not read
	// on every reconcile.
	fake.OnDial(func(context.Context, driver.Endpoint) error {
		return &driver.Error{Reason: driver.AuthenticationFailed, Message: "the token is refused"}
	})
	fake.Live()[0].Kill(nil)
	serving(poolset.HealthDown)
	var result ctrl.Result
	for range 5 {
		result = reconcile()
	}
	if api.n > 2 || result.RequeueAfter > 10*time.Second {
		t.Errorf("%d reads of the API server, want 2 at most; next in %s, want 10 s at most", api.n, result.RequeueAfter)
	}
}

// statusless is a client that writes no status, because the operator of the tests
// writes it.
type statusless struct{ client.Client }

func (s statusless) Status() client.SubResourceWriter { return silent{s.Client.Status()} }

type silent struct{ client.SubResourceWriter }

func (silent) Apply(context.Context, runtime.ApplyConfiguration, ...client.SubResourceApplyOption) error {
	return nil
}

// clusterConfig returns a kubeconfig for the server with a token.
func clusterConfig(server, token string) []byte {
	return fmt.Appendf(nil, `{kind: Config, apiVersion: v1, current-context: a,
  clusters: [{name: a, cluster: {server: %q}}], users: [{name: a, user: {token: %q}}],
  contexts: [{name: a, context: {cluster: a, user: a}}]}`, server, token)
}

func kubeconfigSecret(namespace, name string, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name,
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"kubeconfig": kubeconfig},
	}
}
