package integration

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

func TestEachMissingThingNamesItself(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	ct := target(space, "web", server, "web-ssh")
	create(t, ct)
	condition(t, 10*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonNotSelected)

	p := pool(space, "web", "web")
	create(t, p)
	found := condition(t, 10*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonCredentialsMissing)
	if !strings.Contains(found.Message, "web-ssh") || !strings.Contains(found.Message, "kubectl label secret") {
		t.Errorf("message %q lacks the Secret or the next step", found.Message)
	}
	condition(t, 10*time.Second, p, v1alpha1.ConditionReady, no, v1alpha1.ReasonTargetsFailing)

	secret := credentials(space, "web-ssh", server)
	secret.Labels = nil
	create(t, secret)
	change(t, secret, func(s *corev1.Secret) {
		s.Labels = map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue}
	})
	condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	condition(t, 10*time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	expectEvent(t, ct, corev1.EventTypeNormal, v1alpha1.ReasonWarm)

	change(t, p, func(p *v1alpha1.ConnectionPool) { p.Spec.State = new(v1alpha1.PoolPaused) })
	condition(t, 10*time.Second, p, v1alpha1.ConditionReady, no, v1alpha1.ReasonPaused)
	eventually(t, 10*time.Second, "a paused pool closes its connections", func() (bool, string) { return server.Connections() == 0, "" })
	change(t, p, func(p *v1alpha1.ConnectionPool) { p.Spec.State = new(v1alpha1.PoolActive) })
	condition(t, 10*time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

func expectEvent(t *testing.T, object client.Object, kind, reason string) {
	t.Helper()
	eventually(t, 10*time.Second, "an event "+reason, func() (bool, string) {
		var events eventsv1.EventList
		if err := env.client.List(t.Context(), &events, client.InNamespace(object.GetNamespace())); err != nil {
			return false, err.Error()
		}
		for _, event := range events.Items {
			if event.Regarding.UID == object.GetUID() && event.Type == kind && event.Reason == reason {
				return true, ""
			}
		}
		return false, ""
	})
}

func TestASecretThatCannotBeUsedSaysWhy(t *testing.T) {
	server := startSSHD(t)
	tests := map[string]struct {
		data   map[string][]byte
		reason string
		says   string
	}{
		"no key at all":           {map[string][]byte{"id_rsa": server.PrivateKey}, v1alpha1.ReasonCredentialsMissing, "ssh-privatekey"},
		"an empty key":            {map[string][]byte{"ssh-privatekey": {}}, v1alpha1.ReasonCredentialsInvalid, "ssh-privatekey"},
		"something else":          {map[string][]byte{"ssh-privatekey": []byte(canary)}, v1alpha1.ReasonCredentialsInvalid, "ssh-privatekey"},
		"a password that is none": {map[string][]byte{"password": []byte(canary)}, v1alpha1.ReasonAuthenticationFailed, "password"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			space := namespace(t)
			secret := credentials(space, "web-ssh", server)
			secret.Data = tc.data
			ct := target(space, "web", server, "web-ssh")
			create(t, secret, ct, pool(space, "web", "web"))
			found := condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, no, tc.reason)
			if !strings.Contains(found.Message, tc.says) {
				t.Errorf("message %q does not name %s", found.Message, tc.says)
			}
			condition(t, time.Second, ct, v1alpha1.ConditionStalled, yes, tc.reason)
		})
	}
}

func TestHostKeysComeFromAConfigMapToo(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	ct := target(space, "web", server, "web-ssh")
	ct.Spec.SSH.HostKeys = v1alpha1.HostKeys{ConfigMapRef: &v1alpha1.KeyRef{Name: "hosts", Key: "known_hosts"}}
	create(t, credentials(space, "web-ssh", server), ct, pool(space, "web", "web"))
	found := condition(t, 10*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonHostKeysInvalid)
	if !strings.Contains(found.Message, "kubectl label configmap") {
		t.Errorf("message %q lacks the next step", found.Message)
	}
	create(t, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space, Name: "hosts",
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string]string{"known_hosts": server.KnownHosts},
	})
	condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

func TestTargetsAreReachedThroughJumpTargets(t *testing.T) {
	jumpServer, web := startSSHD(t), startSSHD(t)
	space := namespace(t)
	jumpHost := target(space, "jump", jumpServer, "jump-ssh")
	ct := target(space, "web", web, "web-ssh")
	ct.Spec.SSH.JumpTargetRef = &v1alpha1.TargetRef{Name: "jump"}
	p := pool(space, "web", "web", size(2, 2))
	create(t, credentials(space, "jump-ssh", jumpServer), credentials(space, "web-ssh", web), ct, p)
	condition(t, 10*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonJumpTargetInvalid)

	create(t, jumpHost)
	condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	out, err := execute(t, p, ct, "echo", "through")
	if err != nil || out != "through\n" {
		t.Fatalf("a command through the jump host: %q, %v", out, err)
	}

	change(t, jumpHost, func(jumpHost *v1alpha1.ConnectionTarget) {
		jumpHost.Spec.SSH.JumpTargetRef = &v1alpha1.TargetRef{Name: "web"}
	})
	found := condition(t, 10*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonJumpTargetInvalid)
	if !strings.Contains(found.Message, "web -> jump -> web") {
		t.Errorf("message %q lacks the cycle", found.Message)
	}
}

func TestAPoolOverSeveralTargetsSaysWhichFail(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	good := target(space, "good", server, "web-ssh")
	bad := target(space, "bad", server, "web-ssh")
	bad.Spec.SSH.Port = new(int32(1)) // no server listens there
	bad.Spec.SSH.HostKeys.KnownHosts = []string{string(ssh.MarshalAuthorizedKey(server.HostKey))}
	p := pool(space, "web", "", func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.TargetRef = nil
		spec.TargetSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	})
	create(t, p)
	condition(t, 10*time.Second, p, v1alpha1.ConditionReady, no, v1alpha1.ReasonNoTargets)
	create(t, credentials(space, "web-ssh", server), good, bad)
	condition(t, 20*time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonDegraded)
	condition(t, time.Second, p, v1alpha1.ConditionDegraded, yes, v1alpha1.ReasonTargetsFailing)
	failing := p.Status.FailingTargets
	if len(failing) != 1 || failing[0].Name != "bad" || failing[0].Reason != v1alpha1.ReasonUnreachable {
		t.Errorf("failingTargets = %+v, want bad as Unreachable", failing)
	}
	expectEvent(t, bad, corev1.EventTypeWarning, v1alpha1.ReasonUnreachable)
	if p.Status.Selector == nil || !strings.HasSuffix(*p.Status.Selector, "="+string(p.UID)) {
		t.Errorf("selector = %v", p.Status.Selector)
	}
	remove(t, bad)
	condition(t, 10*time.Second, p, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

func TestMetricsNeedATokenThatMayReadThem(t *testing.T) {
	warm(t, startSSHD(t))
	anonymous := rest.AnonymousClientConfig(env.config)
	if status, _ := scrape(t, anonymous); status != 401 {
		t.Errorf("without a token: status %d, want 401", status)
	}
	space := namespace(t)
	visitor, prometheus := account(t, space, "visitor"), account(t, space, "prometheus")
	if status, _ := scrape(t, as(t, anonymous, visitor)); status != 403 {
		t.Errorf("without permission: status %d, want 403", status)
	}
	allowMetrics(t, prometheus)
	reader := as(t, anonymous, prometheus)
	eventually(t, 10*time.Second, "the metrics are readable", func() (bool, string) {
		status, text := scrape(t, reader)
		return status == 200 && strings.Contains(text, `connpool_connections{namespace="`) &&
			strings.Contains(text, "connpool_dials_total") && !strings.Contains(text, canary), text[:min(len(text), 200)]
	})
}

func account(t *testing.T, space, name string) *corev1.ServiceAccount {
	t.Helper()
	made := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name}}
	create(t, made)
	return made
}

// as returns the configuration with a token of the account.
func as(t *testing.T, config *rest.Config, account *corev1.ServiceAccount) *rest.Config {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if err := env.client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	config = rest.CopyConfig(config)
	config.BearerToken = request.Status.Token
	return config
}

func allowMetrics(t *testing.T, account *corev1.ServiceAccount) {
	t.Helper()
	name := "metrics-" + account.Namespace
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: account.Namespace, Name: account.Name}},
	}
	create(t, role, binding)
	t.Cleanup(func() {
		_ = env.client.Delete(context.Background(), binding)
		_ = env.client.Delete(context.Background(), role)
	})
}

// A user must not reach the operator's own network through a target.
func TestADeniedAddressIsRefused(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	ct := target(space, "metadata", server, "web-ssh")
	ct.Spec.SSH.Host = "169.254.169.254"
	ct.Spec.SSH.HostKeys.KnownHosts = []string{string(ssh.MarshalAuthorizedKey(server.HostKey))}
	create(t, credentials(space, "web-ssh", server), ct, pool(space, "web", "metadata"))
	condition(t, 15*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonAddressDenied)
}

// The other half of this test runs after all other tests: see leakedSecrets.
func TestNoCredentialComesOut(t *testing.T) {
	server := startSSHD(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, canary, []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Authorize(authorized); err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(block)
	tests := map[string]struct {
		data   map[string]string
		status metav1.ConditionStatus
		reason string
	}{
		"a key with a passphrase":       {map[string]string{"passphrase": canary}, yes, v1alpha1.ReasonWarm},
		"a key with a wrong passphrase": {map[string]string{"passphrase": "not " + canary}, no, v1alpha1.ReasonCredentialsInvalid},
		"a certificate that is none": {
			map[string]string{"passphrase": canary, "ssh-certificate": canary}, no, v1alpha1.ReasonCredentialsInvalid,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			space := namespace(t)
			secret := credentials(space, "web-ssh", server)
			secret.Data["ssh-privatekey"], secret.StringData = encrypted, tc.data
			ct := target(space, "web", server, "web-ssh")
			create(t, secret, ct, pool(space, "web", "web"))
			condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, tc.status, tc.reason)
		})
	}
}
