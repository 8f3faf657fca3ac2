package hostile

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	liveapi "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	live "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/controlplane"
)

// tenant is a namespace, and a ServiceAccount that may use all pools in it.
type tenant struct {
	namespace string
	// direct is the ServiceAccount's configuration for the operator's own port.
	direct *rest.Config
}

func newTenant(t *testing.T, name string) tenant {
	t.Helper()
	n := tenant{namespace: name}
	n.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	n.create(t, &rbacv1.Role{ObjectMeta: n.named("user"), Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{liveapi.GroupName}, Resources: []string{"*"}, Verbs: []string{"*"},
	}}})
	n.direct = n.account(t, "user")
	return n
}

// account returns the configuration of another ServiceAccount with the same rights.
func (n tenant) account(t *testing.T, name string) *rest.Config {
	t.Helper()
	n.create(t, &rbacv1.RoleBinding{
		ObjectMeta: n.named(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "user"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: n.namespace, Name: name}},
	})
	account, err := env.plane.ServiceAccount(t.Context(), n.namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return directly(t, account)
}

// directly returns a configuration by which the same user calls the operator's own
// port.
func directly(t *testing.T, account *rest.Config) *rest.Config {
	t.Helper()
	var certificates corev1.Secret
	key := client.ObjectKey{Namespace: controlplane.APINamespace, Name: controlplane.APIService + "-certs"}
	eventually(t, 30*time.Second, "the operator's certificates exist", func(ctx context.Context) (bool, string) {
		err := env.client.Get(ctx, key, &certificates)
		return err == nil, errorText(err)
	})
	return &rest.Config{
		Host: "https://" + env.address, BearerToken: account.BearerToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: certificates.Data["ca.crt"]},
	}
}

func (n tenant) client(t *testing.T) *live.Client {
	t.Helper()
	c, err := live.New(n.direct)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leave deletes what makes the operator connect.
func (n tenant) leave(t *testing.T) {
	t.Helper()
	for _, kind := range []client.Object{&v1alpha1.ConnectionPool{}, &v1alpha1.ConnectionTarget{}} {
		if err := env.client.DeleteAllOf(context.WithoutCancel(t.Context()), kind, client.InNamespace(n.namespace)); err != nil {
			t.Error(err)
		}
	}
}

func (n tenant) named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: n.namespace, Name: name}
}

func (n tenant) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := env.client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

// secret makes a Secret that targets may refer to.
func (n tenant) secret(t *testing.T, name string, data map[string][]byte) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: n.named(name), Data: data}
	secret.Labels = map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue}
	n.create(t, secret)
}

// sshTarget describes a server whose key is in the Secret login.
func (n tenant) sshTarget(name, address, knownHosts, user string) *v1alpha1.ConnectionTarget {
	host, port := split(address)
	return &v1alpha1.ConnectionTarget{ObjectMeta: n.named(name), Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
		Host: host, Port: &port, User: user, CredentialsRef: v1alpha1.SecretRef{Name: "login"},
		HostKeys: v1alpha1.HostKeys{KnownHosts: []string{strings.TrimSpace(knownHosts)}},
	}}}
}

// clusterTarget describes a cluster whose kubeconfig is in the Secret of the same name.
func (n tenant) clusterTarget(name string) *v1alpha1.ConnectionTarget {
	return &v1alpha1.ConnectionTarget{ObjectMeta: n.named(name), Spec: v1alpha1.ConnectionTargetSpec{
		Kubernetes: &v1alpha1.KubernetesTarget{KubeconfigRef: v1alpha1.KeyRef{Name: name, Key: "kubeconfig"}},
	}}
}

func (n tenant) poolOf(name, target string) *v1alpha1.ConnectionPool {
	return &v1alpha1.ConnectionPool{ObjectMeta: n.named(name), Spec: v1alpha1.ConnectionPoolSpec{
		TargetRef: &v1alpha1.TargetRef{Name: target},
		Size:      v1alpha1.PoolSize{MinWarm: new(int32(1)), Max: new(int32(4))},
		Acquire:   v1alpha1.PoolAcquire{TimeoutSeconds: new(int32(10))},
	}}
}

// ready waits until the user can run commands in a pool, or the target is Ready for
// other types.
func (n tenant) ready(t *testing.T, target string, bound time.Duration) {
	t.Helper()
	n.condition(t, target, bound, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue
	})
}

func (n tenant) condition(t *testing.T, target string, bound time.Duration, is func(metav1.Condition) bool) {
	t.Helper()
	eventually(t, bound, "the condition of "+target, func(ctx context.Context) (bool, string) {
		var found v1alpha1.ConnectionTarget
		if err := env.client.Get(ctx, client.ObjectKey{Namespace: n.namespace, Name: target}, &found); err != nil {
			return false, err.Error()
		}
		said := meta.FindStatusCondition(found.Status.Conditions, v1alpha1.ConditionReady)
		if said == nil {
			return false, "no condition"
		}
		return slices.ContainsFunc(found.Status.Conditions, is), said.Reason + ": " + said.Message
	})
}

func split(address string) (string, int32) {
	host, text, _ := net.SplitHostPort(address)
	port, _ := strconv.ParseInt(text, 10, 32)
	return host, int32(port)
}

func eventually(t *testing.T, bound time.Duration, what string, fact func(context.Context) (bool, string)) {
	t.Helper()
	var seen string
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, bound, true, func(ctx context.Context) (ok bool, err error) {
		ok, seen = fact(ctx)
		return ok, nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s; last seen: %s", what, bound, seen)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
