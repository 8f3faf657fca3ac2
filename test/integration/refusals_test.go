package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	connpool "github.com/connpool/connpool/client"
)

// refusals are what a user reads of a target that cannot be used: the error of a command,
// and the last stage of a check.
func refusals(t *testing.T, live *connpool.Client, f fixture) (exec, check string) {
	t.Helper()
	_, err := live.Pool(f.pool.Namespace, f.pool.Name).Exec(t.Context(), connpool.Command{Shell: "true"})
	found, failed := live.Check(t.Context(), f.target.Namespace, f.target.Name)
	if failed != nil {
		t.Fatal(failed)
	}
	stages := found.Status.Stages
	return errorText(err), stages[len(stages)-1].Message
}

// What a command and a check say of a Secret is true at once, and not when the status is
// written next.
func TestRefusalsFollowTheSecretWithinASecond(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	f := fixture{
		server: server, target: target(space, "web", server, "web-ssh"), pool: pool(space, "web", "web"),
		secret: credentials(space, "web-ssh", server),
	}
	labels, data := f.secret.Labels, f.secret.Data
	f.secret.Labels, f.secret.Data = nil, nil
	live, err := connpool.New(env.config)
	if err != nil {
		t.Fatal(err)
	}
	create(t, f.pool, f.target)
	t.Cleanup(func() { _ = env.client.Delete(context.Background(), f.target) })
	condition(t, 20*time.Second, f.target, "Ready", no, "CredentialsMissing")

	for _, step := range []struct {
		what string
		do   func()
		says string
	}{
		{"the Secret does not exist", func() {}, "does not exist in namespace " + space + " or lacks its label"},
		{"it is made without its label", func() { create(t, f.secret) }, "or lacks its label"},
		{"it gets its label", func() {
			change(t, f.secret, func(s *corev1.Secret) { s.Labels = labels })
		}, "the Secret holds neither ssh-privatekey nor password"},
		{"it gets a key that is none", func() {
			change(t, f.secret, func(s *corev1.Secret) { s.Data = map[string][]byte{"ssh-privatekey": []byte("nonsense")} })
		}, "ssh-privatekey"},
		{"it loses its label", func() {
			change(t, f.secret, func(s *corev1.Secret) { s.Labels = nil })
		}, "does not exist in namespace " + space + " or lacks its label"},
	} {
		step.do()
		eventually(t, time.Second, step.what, func() (bool, string) {
			exec, check := refusals(t, live, f)
			return strings.Contains(exec, step.says) && strings.Contains(check, step.says), exec + "; " + check
		})
	}
	change(t, f.secret, func(s *corev1.Secret) { s.Labels, s.Data = labels, data })
	eventually(t, 10*time.Second, "a command runs", func() (bool, string) {
		exec, _ := refusals(t, live, f)
		return exec == "", exec
	})
}
