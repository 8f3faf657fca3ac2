package integration

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
)

// TestAKeyThatANewServerLearnsOfLateIsFoundSoon has a machine whose authorized_keys are
// written after its sshd has started.
func TestAKeyThatANewServerLearnsOfLateIsFoundSoon(t *testing.T) {
	server, space := startSSHD(t), namespace(t)
	late := newKey(t)
	secret := credentials(space, "late", server)
	secret.Data["ssh-privatekey"] = late.private
	web := target(space, "web", server, "late")
	create(t, secret, web, pool(space, "web", "web"))
	condition(t, 20*time.Second, web, v1alpha1.ConditionReady, no, v1alpha1.ReasonAuthenticationFailed)
	if err := server.Authorize(late.public); err != nil {
		t.Fatal(err)
	}
	condition(t, 40*time.Second, web, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

// TestOneBadLineOfAKnownHostsFileIsNamedAndStopsNoTarget changes a file that serves
// already.
func TestOneBadLineOfAKnownHostsFileIsNamedAndStopsNoTarget(t *testing.T) {
	server, space := startSSHD(t), namespace(t)
	file := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space, Name: "hosts", Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string]string{"known_hosts": "<<<<<<< HEAD\n" + server.KnownHosts + "\nssh-gw.example.com ssh-ed25519 AAAA\n"},
	}
	web := target(space, "web", server, "web-ssh")
	web.Spec.SSH.HostKeys = v1alpha1.HostKeys{ConfigMapRef: &v1alpha1.KeyRef{Name: "hosts", Key: "known_hosts"}}
	create(t, file, credentials(space, "web-ssh", server), web, pool(space, "web", "web"))
	condition(t, 20*time.Second, web, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	got := condition(t, time.Second, web, v1alpha1.ConditionCredentialsReady, yes, v1alpha1.ReasonCredentialsValid)
	if !strings.Contains(got.Message, "line 1 is not a host key") || strings.Contains(got.Message, "line 3") {
		t.Errorf("message %q, want line 1 alone", got.Message)
	}
}

// TestASecretGoesToTheHostsThatItNames takes the consent away, and gives it back.
func TestASecretGoesToTheHostsThatItNames(t *testing.T) {
	f := warm(t, startSSHD(t))
	change(t, f.secret, func(s *corev1.Secret) { s.Annotations = map[string]string{v1alpha1.HostsAnnotation: "web.example.com"} })
	got := condition(t, 20*time.Second, f.target, v1alpha1.ConditionReady, no, v1alpha1.ReasonCredentialsMissing)
	if !strings.Contains(got.Message, "does not name the host 127.0.0.1") {
		t.Errorf("message %q", got.Message)
	}
	change(t, f.secret, func(s *corev1.Secret) { s.Annotations[v1alpha1.HostsAnnotation] = "web.example.com, 127.0.0.0/8" })
	condition(t, 20*time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}
