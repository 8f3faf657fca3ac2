package integration

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/test/dockerd"
	"github.com/connpool/connpool/test/netfault"
)

// engineOver describes an engine as a target over TLS, with its Secret.
func engineOver(space string, engine *dockerd.Engine) (*corev1.Secret, *v1alpha1.ConnectionTarget) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space, Name: "build-tls",
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"ca.crt": engine.CA, "tls.crt": engine.Cert, "tls.key": engine.Key},
	}
	return secret, engineAt(space, "tcp://"+engine.TCP, func(d *v1alpha1.DockerTarget) { d.TLSRef = &v1alpha1.SecretRef{Name: secret.Name} })
}

func engineAt(space, endpoint string, edit func(*v1alpha1.DockerTarget)) *v1alpha1.ConnectionTarget {
	docker := &v1alpha1.DockerTarget{Endpoint: endpoint}
	edit(docker)
	return &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "build"},
		Spec:       v1alpha1.ConnectionTargetSpec{Docker: docker},
	}
}

// warmEngine starts an engine and waits until a pool has a connection to it.
func warmEngine(t *testing.T) (*dockerd.Engine, *corev1.Secret, *v1alpha1.ConnectionTarget, *v1alpha1.ConnectionPool) {
	t.Helper()
	engine, space := dockerd.Start(t), namespace(t)
	secret, ct := engineOver(space, engine)
	p := pool(space, "build", "build")
	create(t, secret, ct, p)
	t.Cleanup(func() { _ = env.client.Delete(context.Background(), ct) })
	condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	return engine, secret, ct, p
}

// inContainer runs a command in a container through the pool.
func inContainer(t *testing.T, p *v1alpha1.ConnectionPool, ct *v1alpha1.ConnectionTarget, container string, argv ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	request := poolset.Request{Pool: string(p.UID), Target: string(ct.UID)}
	command := driver.Command{Place: driver.Place{Container: container}, Argv: argv}
	err := executeIn(t.Context(), request, command, driver.Streams{Stdout: &out})
	return out.String(), err
}

func TestEnginesGetWarmAndRunCommands(t *testing.T) {
	engine := dockerd.Start(t)
	container, err := engine.Container(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	jumpServer, host := startSSHD(t), startSSHD(t)
	tests := map[string]func(space string) *v1alpha1.ConnectionTarget{
		"over TLS": func(space string) *v1alpha1.ConnectionTarget {
			secret, ct := engineOver(space, engine)
			create(t, secret)
			return ct
		},
		"through an ssh target and its jump host": func(space string) *v1alpha1.ConnectionTarget {
			sshTarget := target(space, "build-1", host, "host-ssh")
			sshTarget.Spec.SSH.JumpTargetRef = &v1alpha1.TargetRef{Name: "jump"}
			create(t, target(space, "jump", jumpServer, "jump-ssh"), sshTarget,
				credentials(space, "jump-ssh", jumpServer), credentials(space, "host-ssh", host))
			return engineAt(space, "unix://"+engine.Socket, func(d *v1alpha1.DockerTarget) {
				d.SSHTargetRef = &v1alpha1.TargetRef{Name: "build-1"}
			})
		},
	}
	for name, arrange := range tests {
		t.Run(name, func(t *testing.T) {
			space := namespace(t)
			ct, p := arrange(space), pool(space, "build", "build", size(2, 2))
			create(t, ct, p)
			t.Cleanup(func() { _ = env.client.Delete(context.Background(), ct) })
			condition(t, 30*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
			status := ct.Status
			if *status.Type != v1alpha1.TargetTypeDocker || status.ServerVersion == nil || !strings.HasPrefix(*status.Endpoint, ct.Spec.Docker.Endpoint) {
				t.Errorf("status %+v", status)
			}
			out, err := inContainer(t, p, ct, container, "echo", "hello")
			if err != nil || out != "hello\n" {
				t.Errorf("a command in the container: %q, %v", out, err)
			}
			if found := checkTarget(t, env.config, ct); !found.Ready {
				t.Errorf("a check says\n%s", stagesOf(found))
			}
		})
	}
	// The check adds no login, because it shares the jump host's connection.
	if n := strings.Count(jumpServer.Log(), "Accepted publickey"); n > 2 {
		t.Errorf("%d logins at the jump host, want 2 at most", n)
	}
}

// Each cause for which an engine cannot be used has its own reason.
func TestAnEngineThatCannotBeUsedSaysWhy(t *testing.T) {
	engine := dockerd.Start(t)
	expired := dockerd.ClientTemplate("connpool")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	oldCert, oldKey := issue(t, engine.Authority, expired)
	foreign, err := dockerd.NewAuthority("foreign")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := netfault.Start(engine.TCP, netfault.Options{Address: "127.0.0.2:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(elsewhere.Close)
	foreignCert, foreignKey := issue(t, foreign, dockerd.ClientTemplate("connpool"))
	tests := map[string]struct {
		change func(*corev1.Secret, *v1alpha1.ConnectionTarget)
		reason string
		says   string
	}{
		"a Secret without a key": {func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) { delete(s.Data, "tls.key") }, v1alpha1.ReasonCredentialsMissing, "tls.key"},
		"a Secret without its label": {
			func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) { s.Labels = nil }, v1alpha1.ReasonCredentialsMissing, "kubectl label secret",
		},
		"a key that is none":  {func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) { s.Data["tls.key"] = []byte(canary) }, v1alpha1.ReasonCredentialsInvalid, "tls.key"},
		"a pair that is none": {func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) { s.Data["tls.key"] = foreignKey }, v1alpha1.ReasonCredentialsInvalid, "tls.key"},
		"an expired certificate": {func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) {
			s.Data["tls.crt"], s.Data["tls.key"] = oldCert, oldKey
		}, v1alpha1.ReasonCertificateInvalid, "tls.crt"},
		"a certificate that the engine does not know": {
			func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) {
				s.Data["tls.crt"], s.Data["tls.key"] = foreignCert, foreignKey
			},
			v1alpha1.ReasonAuthenticationFailed, "tls.crt",
		},
		"an engine of another authority": {
			func(s *corev1.Secret, _ *v1alpha1.ConnectionTarget) { s.Data["ca.crt"] = foreign.Certificate }, v1alpha1.ReasonCertificateInvalid, "",
		},
		"an engine that is certified for another name": {
			func(_ *corev1.Secret, ct *v1alpha1.ConnectionTarget) {
				ct.Spec.Docker.Endpoint = "tcp://" + elsewhere.Addr
			},
			v1alpha1.ReasonCertificateInvalid, "127.0.0.2",
		},
		"a socket of the operator's own host": {
			func(_ *corev1.Secret, ct *v1alpha1.ConnectionTarget) {
				ct.Spec.Docker = &v1alpha1.DockerTarget{Endpoint: "unix://" + engine.Socket}
			}, v1alpha1.ReasonAddressDenied, "--allow-local-sockets",
		},
		"nothing that listens": {
			func(_ *corev1.Secret, ct *v1alpha1.ConnectionTarget) { ct.Spec.Docker.Endpoint = "tcp://127.0.0.1:1" }, v1alpha1.ReasonUnreachable, "",
		},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		tc := tests[name]
		t.Run(name, func(t *testing.T) {
			space := namespace(t)
			secret, ct := engineOver(space, engine)
			tc.change(secret, ct)
			create(t, secret, ct, pool(space, "build", "build"))
			t.Cleanup(func() { _ = env.client.Delete(context.Background(), ct) })
			found := condition(t, 20*time.Second, ct, v1alpha1.ConditionReady, no, tc.reason)
			if !strings.Contains(found.Message, tc.says) {
				t.Errorf("message %q does not name %s", found.Message, tc.says)
			}
		})
	}
}

func issue(t *testing.T, authority *dockerd.Authority, template *x509.Certificate) (cert, key []byte) {
	t.Helper()
	cert, key, err := authority.Issue(template)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// F14 and F15 for engines.
func TestCertificatesOfAnEngineAreRotated(t *testing.T) {
	engine, secret, ct, p := warmEngine(t)
	before := observe(p, ct).Oldest

	change(t, secret, func(s *corev1.Secret) { s.Data["tls.crt"] = []byte(canary) })
	condition(t, 20*time.Second, ct, v1alpha1.ConditionCredentialsReady, no, v1alpha1.ReasonCredentialsInvalid)
	condition(t, time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if now := observe(p, ct); now.Warm() != 1 || !now.Oldest.Equal(before) {
		t.Errorf("%d connections since %s, want the one of %s", now.Warm(), now.Oldest, before)
	}

	cert, key := issue(t, engine.Authority, dockerd.ClientTemplate("another"))
	change(t, secret, func(s *corev1.Secret) { s.Data["tls.crt"], s.Data["tls.key"] = cert, key })
	condition(t, 20*time.Second, ct, v1alpha1.ConditionCredentialsReady, yes, v1alpha1.ReasonCredentialsValid)
	eventually(t, 60*time.Second, "the connection is replaced", func() (bool, string) {
		now := observe(p, ct)
		return now.Warm() == 1 && now.Oldest.After(before) && now.Draining == 0, now.Oldest.String()
	})
}

// F23 for an idle connection: the engine freezes, thaws, dies and comes back.
func TestAnEngineThatIsAwayForAWhileComesBack(t *testing.T) {
	engine, _, ct, p := warmEngine(t)

	engine.Freeze()
	t.Cleanup(engine.Thaw)
	connected(t, 15*time.Second, p, ct, 0)
	engine.Thaw()
	connected(t, 30*time.Second, p, ct, 1)

	engine.Kill()
	connected(t, 5*time.Second, p, ct, 0)
	condition(t, 30*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonUnreachable)
	if err := engine.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	condition(t, 75*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}
