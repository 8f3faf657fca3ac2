package fleet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
)

// account is that of the pool in the spoke.
const (
	account          = "connpool"
	accountNamespace = "kube-system"
)

// managed is the spoke as a target of the hub, in a namespace of its own.
type managed struct {
	space  string
	secret *corev1.Secret
	target *v1alpha1.ConnectionTarget
	pool   *v1alpha1.ConnectionPool
	token  string // the name of the Secret to which the present token is bound
	tokens int
}

func manage(t *testing.T, space string, edits ...func(*v1alpha1.ConnectionPoolSpec)) *managed {
	t.Helper()
	grantSpoke(t)
	m := &managed{space: space}
	create(t, env.client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space}})
	m.secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space, Name: "prod", Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"kubeconfig": m.issue(t)},
	}
	m.target = &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "prod"},
		Spec: v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{
			KubeconfigRef: v1alpha1.KeyRef{Name: "prod", Key: "kubeconfig"},
		}},
	}
	m.pool = &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "prod"},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "prod"}},
	}
	for _, edit := range edits {
		edit(&m.pool.Spec)
	}
	create(t, env.client, m.secret, m.target, m.pool)
	m.ready(t)
	return m
}

func (m *managed) ready(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "the pool is ready", func(ctx context.Context) (bool, string) {
		err := env.client.Get(ctx, client.ObjectKeyFromObject(m.pool), m.pool)
		return err == nil && meta.IsStatusConditionTrue(m.pool.Status.Conditions, v1alpha1.ConditionReady),
			fmt.Sprint(err, m.pool.Status.Conditions)
	})
}

// issue returns a kubeconfig with a new token of the pool's account. The token is bound to
// a Secret, so that it can be revoked.
func (m *managed) issue(t *testing.T) []byte {
	t.Helper()
	m.tokens++
	m.token = fmt.Sprintf("%s-token-%d", m.space, m.tokens)
	bound := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: accountNamespace, Name: m.token}}
	create(t, env.admin, bound)
	admin, err := kubernetes.NewForConfig(env.spoke.Config)
	if err != nil {
		t.Fatal(err)
	}
	token, err := admin.CoreV1().ServiceAccounts(accountNamespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: new(int64(24 * 3600)),
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: bound.Name, UID: bound.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(env.spoke.Config)
	config.BearerToken = token.Status.Token
	kubeconfig, err := controlplane.Kubeconfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// rotate replaces the token in the Secret, and then revokes the old one.
func (m *managed) rotate(t *testing.T) {
	t.Helper()
	old := m.token
	before := m.secret.DeepCopy()
	m.secret.Data["kubeconfig"] = m.issue(t)
	if err := env.client.Patch(t.Context(), m.secret, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	revoked := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: accountNamespace, Name: old}}
	if err := env.admin.Delete(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
}

// grantSpoke makes the account of the pool in the spoke.
func grantSpoke(t *testing.T) {
	t.Helper()
	create(t, env.admin,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: accountNamespace, Name: account}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: accountNamespace, Name: account}},
		})
}

// manager returns the configuration of a GitOps controller: it has a token of the hub,
// and its server is the proxy of the pool.
func (m *managed) manager(t *testing.T) *rest.Config {
	t.Helper()
	create(t, env.client,
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: m.space, Name: "manage"}, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{live.GroupName}, Resources: []string{"connectionpools/proxy"}, ResourceNames: []string{"prod"},
			Verbs: []string{"get", "create", "update", "patch", "delete"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: m.space, Name: "manage"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "manage"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: m.space, Name: "gitops"}},
		})
	config, err := env.hub.ServiceAccount(t.Context(), m.space, "gitops")
	if err != nil {
		t.Fatal(err)
	}
	config.Host += "/apis/" + live.GroupVersion.String() + "/namespaces/" + m.space + "/connectionpools/prod/proxy/prod"
	config.QPS, config.Burst = 50, 100
	return config
}

func create(t *testing.T, in client.Client, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := in.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

// eventually waits until fact returns true. The other result of fact says what it has
// seen, for the failure.
func eventually(t *testing.T, bound time.Duration, what string, fact func(context.Context) (bool, string)) {
	t.Helper()
	var seen string
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, bound, true, func(ctx context.Context) (ok bool, err error) {
		ok, seen = fact(ctx)
		return ok, nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s; last seen: %s", what, bound, seen)
	}
}

// usage is what the operator's process holds.
type usage struct{ mebibytes, goroutines int }

func (u usage) String() string {
	return fmt.Sprintf("%d MiB, %d goroutines", u.mebibytes, u.goroutines)
}

func operatorUsage(ctx context.Context) (u usage) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", env.operator.Pid()))
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kibi, _ := strconv.Atoi(fields[1])
			u.mebibytes = kibi >> 10
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+env.profiles+"/debug/pprof/goroutine?debug=1", http.NoBody)
	if err != nil {
		return u
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return u
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	_, _ = fmt.Sscanf(string(text), "goroutine profile: total %d", &u.goroutines)
	return u
}
