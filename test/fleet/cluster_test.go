package fleet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
)

// The account of the pool in the spoke.
const (
	spokeAccount   = "connpool"
	spokeNamespace = "kube-system"
)

// managed is the spoke as a target of the hub, in a namespace of its own.
type managed struct {
	space  string
	secret *corev1.Secret
	pool   *v1alpha1.ConnectionPool
	// account in the spoke, of which the next token is.
	account string
	token   string // the name of the Secret to which the present token is bound
	tokens  int
}

// manage makes what config/samples/clusters has, in another namespace than the samples.
func manage(t *testing.T, space string, edits ...func(*v1alpha1.ConnectionPoolSpec)) *managed {
	t.Helper()
	grantSpoke(t, spokeAccount)
	m := &managed{space: space, pool: &v1alpha1.ConnectionPool{}, account: spokeAccount}
	create(t, env.client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space}})
	m.secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space, Name: "prod-kubeconfig", Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"kubeconfig": m.issue(t)},
	}
	create(t, env.client, m.secret)
	for _, object := range append(m.sample(t, "access.yaml"), m.sample(t, "pool.yaml")...) {
		object.SetNamespace(space)
		if object.GetKind() == "ConnectionPool" {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, m.pool); err != nil {
				t.Fatal(err)
			}
			for _, edit := range edits {
				edit(&m.pool.Spec)
			}
			create(t, env.client, m.pool)
			continue
		}
		create(t, env.client, object)
	}
	m.ready(t)
	return m
}

// sampleText returns a sample, for the namespace of the test and the address of the hub.
func (m *managed) sampleText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, "config", "samples", "clusters", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"https://kubernetes.default.svc", env.hub.Config.Host,
		"/namespaces/clusters/", "/namespaces/"+m.space+"/", "namespace: clusters", "namespace: "+m.space,
	).Replace(string(text))
}

func (m *managed) sample(t *testing.T, name string) (objects []*unstructured.Unstructured) {
	t.Helper()
	for document := range strings.SplitSeq(m.sampleText(t, name), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		objects = append(objects, object)
	}
	return objects
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
	bound := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: spokeNamespace, Name: m.token}}
	create(t, env.admin, bound)
	admin, err := kubernetes.NewForConfig(env.spoke.Config)
	if err != nil {
		t.Fatal(err)
	}
	token, err := admin.CoreV1().ServiceAccounts(spokeNamespace).CreateToken(t.Context(), m.account, &authenticationv1.TokenRequest{
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
	revoked := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: spokeNamespace, Name: old}}
	if err := env.admin.Delete(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
}

// grantSpoke makes an account of the pool in the spoke.
func grantSpoke(t *testing.T, account string) {
	t.Helper()
	create(t, env.admin,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: spokeNamespace, Name: account}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: spokeNamespace, Name: account}},
		})
}

// user returns the configuration of the account that may manage the spoke, as a client
// of the hub.
func (m *managed) user(t *testing.T) *rest.Config {
	t.Helper()
	config, err := env.hub.ServiceAccount(t.Context(), m.space, "gitops")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// manager returns the configuration of a GitOps controller: it has a token of the hub,
// and its server is the proxy of the pool.
func (m *managed) manager(t *testing.T) *rest.Config {
	t.Helper()
	config := m.user(t)
	secret := m.sample(t, "argocd.yaml")[0]
	config.Host, _, _ = unstructured.NestedString(secret.Object, "stringData", "server")
	config.QPS, config.Burst = 50, 100
	return config
}

// answers waits until the spoke answers through the pool. After a restart of the operator,
// kube-apiserver takes some seconds to find it again.
func (m *managed) answers(t *testing.T) {
	t.Helper()
	asked, err := kubernetes.NewForConfig(m.manager(t))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the cluster answers through the pool", func(context.Context) (bool, string) {
		_, err := asked.Discovery().ServerVersion()
		return err == nil, fmt.Sprint(err)
	})
}

func restart(t *testing.T) {
	t.Helper()
	env.operator.Stop(10 * time.Second)
	if err := env.launch(); err != nil {
		t.Fatal(err)
	}
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
