package integration

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/connpool/connpool/api/v1alpha1"
	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/driver"
)

// cluster is a target that is the tests' own API server, with the kubeconfig of one
// account in its Secret.
type cluster struct {
	secret *corev1.Secret
	target *v1alpha1.ConnectionTarget
	pool   *v1alpha1.ConnectionPool
}

func aCluster(t *testing.T, kubeconfig []byte) cluster {
	t.Helper()
	space := namespace(t)
	c := cluster{
		secret: kubeconfigSecret(space, "prod-kubeconfig", kubeconfig),
		target: &v1alpha1.ConnectionTarget{
			ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "prod"},
			Spec: v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{
				KubeconfigRef: v1alpha1.KeyRef{Name: "prod-kubeconfig", Key: "kubeconfig"},
			}},
		},
		pool: pool(space, "prod", "prod"),
	}
	create(t, c.secret, c.target, c.pool)
	t.Cleanup(func() { _ = env.client.Delete(context.Background(), c.target) })
	return c
}

func (c cluster) rotate(t *testing.T, kubeconfig []byte) {
	t.Helper()
	change(t, c.secret, func(s *corev1.Secret) { s.Data["kubeconfig"] = kubeconfig })
}

// kubeconfigOf returns the content of a kubeconfig of the account, after the edits.
func kubeconfigOf(t *testing.T, config *rest.Config, edits ...func(*clientcmdapi.Config)) []byte {
	t.Helper()
	file, err := clientcmd.LoadFromFile(kubeconfig(t, config, "default"))
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range edits {
		edit(file)
	}
	content, err := clientcmd.Write(*file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// tokenOf returns the configuration of a new account of the tests' API server.
func tokenOf(t *testing.T, name string) *rest.Config {
	t.Helper()
	config, err := env.plane.ServiceAccount(t.Context(), namespace(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestAClusterGetsWarm(t *testing.T) {
	c := aCluster(t, kubeconfigOf(t, tokenOf(t, "remote")))
	condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	condition(t, 10*time.Second, c.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	status := c.target.Status
	if *status.Type != v1alpha1.TargetTypeKubernetes || *status.Endpoint != env.config.Host {
		t.Errorf("type %s, endpoint %s, want %s", *status.Type, *status.Endpoint, env.config.Host)
	}
	if status.ServerVersion == nil || !strings.Contains(*status.ServerVersion, "v1.") {
		t.Errorf("server version %v, want that of Kubernetes", status.ServerVersion)
	}
	if found := checkTarget(t, env.config, c.target); !found.Ready {
		t.Errorf("a check says\n%s", stagesOf(found))
	}
}

// The operator refuses a kubeconfig that would make it run code or read its own
// files. Its messages repeat no part of a credential.
func TestAKubeconfigThatCannotBeUsedSaysWhy(t *testing.T) {
	config := tokenOf(t, "remote")
	user := func(edit func(*clientcmdapi.AuthInfo)) []byte {
		return kubeconfigOf(t, config, func(file *clientcmdapi.Config) { edit(file.AuthInfos["test"]) })
	}
	server := func(edit func(*clientcmdapi.Cluster)) []byte {
		return kubeconfigOf(t, config, func(file *clientcmdapi.Config) { edit(file.Clusters["test"]) })
	}
	tests := map[string]struct {
		content []byte
		says    string
	}{
		"an exec plugin": {user(func(u *clientcmdapi.AuthInfo) {
			u.Exec = &clientcmdapi.ExecConfig{Command: "aws", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: "Never"}
		}), "exec"},
		"an auth-provider": {user(func(u *clientcmdapi.AuthInfo) {
			u.AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "oidc", Config: map[string]string{"id-token": canary}}
		}), "auth-provider"},
		"a file of a token":              {user(func(u *clientcmdapi.AuthInfo) { u.TokenFile = "/etc/passwd" }), "tokenFile"},
		"a file of a client certificate": {user(func(u *clientcmdapi.AuthInfo) { u.ClientCertificate = "/etc/passwd" }), "client-certificate"},
		"a file of a client key":         {user(func(u *clientcmdapi.AuthInfo) { u.ClientKey = "/etc/passwd" }), "client-key"},
		"impersonation":                  {user(func(u *clientcmdapi.AuthInfo) { u.Impersonate = "system:admin" }), "field as "},
		"a file of an authority": {server(func(c *clientcmdapi.Cluster) {
			c.CertificateAuthority, c.CertificateAuthorityData = "/etc/passwd", nil // data would win over the file
		}), "certificate-authority"},
		"no verification of the server":    {server(func(c *clientcmdapi.Cluster) { c.InsecureSkipTLSVerify = true }), "insecure-skip-tls-verify"},
		"a proxy":                          {server(func(c *clientcmdapi.Cluster) { c.ProxyURL = "http://me:" + canary + "@proxy" }), "proxy-url"},
		"no such context":                  {kubeconfigOf(t, config, func(file *clientcmdapi.Config) { file.CurrentContext = "gone" }), "context"},
		"something else":                   {[]byte(canary), "kubeconfig"},
		"a certificate authority of words": {server(func(c *clientcmdapi.Cluster) { c.CertificateAuthorityData = []byte(canary) }), "certificate-authority-data"},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		tc := tests[name]
		t.Run(name, func(t *testing.T) {
			c := aCluster(t, tc.content)
			found := condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, no, v1alpha1.ReasonCredentialsInvalid)
			if !strings.Contains(found.Message, tc.says) {
				t.Errorf("message %q does not name %s", found.Message, tc.says)
			}
			condition(t, time.Second, c.target, v1alpha1.ConditionStalled, yes, v1alpha1.ReasonCredentialsInvalid)
		})
	}
}

func TestAKubeconfigWithoutItsKeySaysSo(t *testing.T) {
	c := aCluster(t, kubeconfigOf(t, tokenOf(t, "remote")))
	condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	change(t, c.secret, func(s *corev1.Secret) { s.Data = map[string][]byte{"config": s.Data["kubeconfig"]} })
	found := condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, no, v1alpha1.ReasonCredentialsMissing)
	if !strings.Contains(found.Message, "lacks the key kubeconfig") {
		t.Errorf("message %q does not name the key", found.Message)
	}
	change(t, c.target, func(ct *v1alpha1.ConnectionTarget) { ct.Spec.Kubernetes.KubeconfigRef.Key = "config" })
	condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)

	change(t, c.secret, func(s *corev1.Secret) { s.Data["config"] = []byte{} })
	condition(t, 20*time.Second, c.target, v1alpha1.ConditionCredentialsReady, no, v1alpha1.ReasonCredentialsMissing)
	condition(t, time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm) // the old connections serve on
}

// F15 for clusters.
func TestAKubeconfigRotatedToSomethingWrongKeepsTheOldConnections(t *testing.T) {
	config := tokenOf(t, "remote")
	good := kubeconfigOf(t, config)
	tests := map[string][]byte{
		"a token that the server refuses": kubeconfigOf(t, config, func(file *clientcmdapi.Config) { file.AuthInfos["test"].Token = canary }),
		"something that is no kubeconfig": []byte(canary),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			c := aCluster(t, good)
			condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
			before := observe(c.pool, c.target).Oldest
			c.rotate(t, content)
			condition(t, 20*time.Second, c.target, v1alpha1.ConditionCredentialsReady, no, v1alpha1.ReasonCredentialsInvalid)
			condition(t, time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
			if *c.target.Status.Endpoint != config.Host {
				t.Errorf("endpoint %s, want that of what serves", *c.target.Status.Endpoint)
			}
			if now := observe(c.pool, c.target); now.Warm() != 1 || !now.Oldest.Equal(before) {
				t.Errorf("%d connections since %s, want the one of %s", now.Warm(), now.Oldest, before)
			}
			c.rotate(t, good)
			condition(t, 20*time.Second, c.target, v1alpha1.ConditionCredentialsReady, yes, v1alpha1.ReasonCredentialsValid)
		})
	}
}

// F14 and F24: an account is deleted, and its token with it. Then the Secret gets the
// token of another account.
func TestATokenThatIsNotAcceptedAnyMoreGivesWayToTheNext(t *testing.T) {
	space := namespace(t)
	first, err := env.plane.ServiceAccount(t.Context(), space, "first")
	if err != nil {
		t.Fatal(err)
	}
	c := aCluster(t, kubeconfigOf(t, first))
	condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	remove(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "first"}})
	condition(t, 60*time.Second, c.target, v1alpha1.ConditionReady, no, v1alpha1.ReasonAuthenticationFailed)
	c.rotate(t, kubeconfigOf(t, tokenOf(t, "second")))
	condition(t, 10*time.Second, c.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if failures := observe(c.pool, c.target).DialFailures[driver.AuthenticationFailed]; failures > 2 {
		t.Errorf("%d dials with a token that is refused", failures)
	}
}

// The operator must not send credentials to a server that another authority certifies.
func TestAClusterOfAnotherAuthorityIsNotTrusted(t *testing.T) {
	other := authority(t) // the authority of the live API
	c := aCluster(t, kubeconfigOf(t, tokenOf(t, "remote"), func(file *clientcmdapi.Config) {
		file.Clusters["test"].CertificateAuthorityData = other
	}))
	condition(t, 20*time.Second, c.target, v1alpha1.ConditionReady, no, v1alpha1.ReasonCertificateInvalid)
	condition(t, time.Second, c.target, v1alpha1.ConditionStalled, yes, v1alpha1.ReasonCertificateInvalid)
}

// kube-apiserver is here twice: as the target that redirects, and in front of the
// operator, where it refuses redirects.
func TestARedirectOfAClusterPassesKubeAPIServer(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "redirecting"}}
	create(t, node)
	t.Cleanup(func() { _ = env.client.Delete(context.Background(), node) })
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	if err := env.client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	space := namespace(t)
	account, err := env.plane.ServiceAccount(t.Context(), space, "node-proxy")
	if err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Name: space + "-node-proxy"}
	create(t, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes/proxy"}, Verbs: []string{"get"}},
	}}, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: space, Name: "node-proxy"}},
	})
	c := aCluster(t, kubeconfigOf(t, account))
	condition(t, 20*time.Second, c.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	live, err := goclient.New(env.config)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/nodes/redirecting/proxy"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://target"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := live.Pool(c.pool.Namespace, c.pool.Name).Proxy(c.target.Name).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusMovedPermanently || response.Header.Get("Location") != path+"/" {
		t.Errorf("got %s, %v, %s", response.Status, response.Header, body)
	}
}
