package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/controlplane/binaries"
)

// sessionRule permits everything that a user can do with sessions.
var sessionRule = rbacv1.PolicyRule{
	APIGroups: []string{live.GroupName}, Resources: []string{"sessions", "sessions/exec"},
	Verbs: []string{"create", "delete", "get", "list"},
}

// inSession returns a warm pool, and a user who may run commands and sessions in it.
func inSession(t *testing.T) (fixture, *rest.Config, *goclient.Client) {
	t.Helper()
	f := warm(t, startPlainSSHD(t), manySessions)
	account := permit(t, f.pool.Namespace, "worker", execRule([]string{"create"}), sessionRule)
	return f, account, clientOf(t, account)
}

func clientOf(t *testing.T, config *rest.Config) *goclient.Client {
	t.Helper()
	c, err := goclient.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// open opens a session. It retries until the creator's new permission is known.
func open(t *testing.T, c *goclient.Client, f fixture, options goclient.SessionOptions) *goclient.Session {
	t.Helper()
	var opened *goclient.Session
	eventually(t, 20*time.Second, "a session is opened", func() (bool, string) {
		var err error
		opened, err = c.NewSession(t.Context(), f.pool.Namespace, f.pool.Name, options)
		return err == nil, errorText(err)
	})
	return opened
}

// ends waits until a session has ended for a reason.
func ends(t *testing.T, bound time.Duration, s *goclient.Session, reason string) {
	t.Helper()
	eventually(t, bound, "the session has ended", func() (bool, string) {
		got, err := s.Get(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return got.Status.State == live.SessionEnded && got.Status.Reason == reason, fmt.Sprintf("%+v", got.Status)
	})
}

func TestASessionKeepsItsShellOnARealHost(t *testing.T) {
	makeSSHUser(t)
	f, account, c := inSession(t)
	s := open(t, c, f, goclient.SessionOptions{Env: map[string]string{"STAGE": canary}})
	for name, through := range map[string]*goclient.Session{
		"through kube-apiserver": s, "directly": clientOf(t, directly(t, account)).Session(f.pool.Namespace, s.Name()),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := through.Exec(t.Context(), goclient.Command{Argv: []string{"cd", "/usr/bin"}}); err != nil {
				t.Fatal(err)
			}
			result, err := through.Exec(t.Context(), goclient.Command{Shell: `pwd; echo "${STAGE#` + canary + `}." >&2; (exit 3)`})
			if err == nil || result.ExitCode != 3 || string(result.Stdout) != "/usr/bin\n" || string(result.Stderr) != ".\n" {
				t.Errorf("%+v, %v", result, err)
			}
			var out strings.Builder
			if _, err := through.Stream(t.Context(), goclient.Command{Argv: []string{"pwd"}}, goclient.Streams{Stdout: &out}); err != nil || out.String() != "/usr/bin\n" {
				t.Errorf("a stream: %q, %v", out.String(), err)
			}
		})
	}
	leases(t, 5*time.Second, f, 1)
	result, err := s.Exec(t.Context(), goclient.Command{Shell: "exit 5"})
	if err == nil || result.ExitCode != 5 {
		t.Errorf("exit 5: %+v, %v", result, err)
	}
	ends(t, 5*time.Second, s, "Exited")
	if _, err := s.Exec(t.Context(), goclient.Command{Shell: "true"}); !errors.Is(err, goclient.ErrNotStarted) || !strings.Contains(err.Error(), "exited with code 5") {
		t.Errorf("in a session that has ended: %v", err)
	}
	leases(t, 5*time.Second, f, 0)
}

func TestKubectlKnowsSessions(t *testing.T) {
	makeSSHUser(t)
	f, account, c := inSession(t)
	folder, err := binaries.Ensure(t.Context(), binaries.Printer(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	file := kubeconfig(t, account, f.pool.Namespace)
	manifests := t.TempDir()
	kubectl := func(arguments ...string) string {
		t.Helper()
		output, err := program(t, ".", filepath.Join(folder, "kubectl"), slices.Concat([]string{"--kubeconfig", file}, arguments)...)
		if err != nil {
			t.Errorf("kubectl %s: %v\n%s", strings.Join(arguments, " "), err, output)
		}
		return output
	}
	write := func(name, text string) string {
		path := filepath.Join(manifests, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_ = open(t, c, f, goclient.SessionOptions{Name: "first"})
	// To validate an object that cannot be patched, kubectl lists the cluster's CRDs,
	// and this account may not.
	created := kubectl("create", "--validate=false", "-f", write("session.yaml", `
apiVersion: live.connpool.dev/v1alpha1
kind: Session
metadata:
  generateName: deploy-
spec:
  pool: web
  idleTimeoutSeconds: 60
`), "-o", "name")
	name := strings.TrimSpace(strings.TrimPrefix(created, "session.live.connpool.dev/"))
	path := "/apis/live.connpool.dev/v1alpha1/namespaces/" + f.pool.Namespace + "/sessions/" + name + "/exec"
	for _, command := range []struct{ line, want string }{
		{"cd /usr && pwd", `"stdout":"/usr\n"`},
		{"exit 4", `"exitCode":4`}, // the last one: it ends the session
	} {
		exec := write("exec.json", `{"spec":{"shell":"`+command.line+`"}}`)
		if output := kubectl("create", "--raw", path, "-f", exec); !strings.Contains(output, command.want) {
			t.Errorf("%s: %s", command.line, output)
		}
	}
	list := kubectl("get", "sessions")
	for _, word := range []string{"LAST-USED", "EXPIRES", "first", "Ready", name, "Exited", "web", "worker"} {
		if !strings.Contains(list, word) {
			t.Errorf("the list lacks %s:\n%s", word, list)
		}
	}
	if explained := kubectl("explain", "session.spec.ttlSeconds"); !strings.Contains(explained, "86400") {
		t.Error(explained)
	}
	kubectl("delete", "session", "first", name, "--timeout=20s")
	if rest := kubectl("get", "sessions", "-o", "name"); rest != "" {
		t.Errorf("still there: %s", rest)
	}
	leases(t, 10*time.Second, f, 0)
}

func TestOnlyTheCreatorUsesASession(t *testing.T) {
	makeSSHUser(t)
	f, _, c := inSession(t)
	s := open(t, c, f, goclient.SessionOptions{})
	other := clientOf(t, permit(t, f.pool.Namespace, "other", execRule([]string{"create"}), sessionRule))
	theirs := other.Session(f.pool.Namespace, s.Name())
	eventually(t, 20*time.Second, "others see the session", func() (bool, string) {
		got, err := theirs.Get(t.Context())
		return err == nil && strings.HasSuffix(got.Status.Owner, ":worker"), errorText(err)
	})
	eventually(t, 20*time.Second, "others are refused", func() (bool, string) {
		_, err := theirs.Exec(t.Context(), goclient.Command{Shell: "true"})
		return errors.Is(err, goclient.ErrNotStarted) && strings.Contains(err.Error(), "only its creator"), errorText(err)
	})
	viewer := clientOf(t, permit(t, f.pool.Namespace, "viewer", viewRules(t)...))
	eventually(t, 20*time.Second, "viewers see sessions", func() (bool, string) {
		list, err := viewer.Sessions(t.Context(), f.pool.Namespace)
		return err == nil && len(list.Items) == 1, errorText(err)
	})
	if _, err := viewer.NewSession(t.Context(), f.pool.Namespace, f.pool.Name, goclient.SessionOptions{}); err == nil {
		t.Error("a viewer opens a session")
	}
	if err := theirs.Delete(t.Context()); err != nil {
		t.Errorf("who may delete cannot: %v", err)
	}
}

func TestSessionsEndWithTheirTimeAndTheirPermission(t *testing.T) {
	makeSSHUser(t)
	f, account, c := inSession(t)
	looking := clientOf(t, permit(t, f.pool.Namespace, "viewer", viewRules(t)...))
	expiring := open(t, c, f, goclient.SessionOptions{TTL: 2 * time.Second})
	idle := open(t, c, f, goclient.SessionOptions{IdleTimeout: time.Second})
	ends(t, 10*time.Second, expiring, "Expired")
	ends(t, 10*time.Second, idle, "Idle")
	lasting := open(t, clientOf(t, directly(t, account)), f, goclient.SessionOptions{})
	remove(t, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: f.pool.Namespace, Name: "worker"}})
	ends(t, 45*time.Second, looking.Session(f.pool.Namespace, lasting.Name()), "PermissionRevoked")
	leases(t, 10*time.Second, f, 0)
}

func TestSessionsEndWithTheirConnection(t *testing.T) {
	makeSSHUser(t)
	f, _, c := inSession(t)
	s := open(t, c, f, goclient.SessionOptions{})
	f.server.KillConnections()
	ends(t, 10*time.Second, s, "Unreachable")
	again := open(t, c, f, goclient.SessionOptions{})
	remove(t, f.pool)
	ends(t, 45*time.Second, again, "Unreachable")
}

// startNamespaceController runs the real kube-controller-manager, which empties
// deleted namespaces.
func startNamespaceController(t *testing.T) {
	t.Helper()
	folder, err := binaries.EnsureNode(t.Context(), binaries.Printer(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	admin := kubeconfigOf(t, env.config, func(file *clientcmdapi.Config) {
		file.AuthInfos["test"].ClientCertificateData, file.AuthInfos["test"].ClientKeyData = env.config.CertData, env.config.KeyData
	})
	if err := os.WriteFile(file, admin, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	controller := exec.CommandContext(ctx, filepath.Join(folder, "kube-controller-manager"),
		"--kubeconfig="+file, "--controllers=namespace-controller", "--leader-elect=false", "--secure-port=0")
	controller.Stderr = t.Output()
	if err := controller.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = controller.Wait() // it was killed
	})
}

func TestANamespaceWithSessionsIsDeleted(t *testing.T) {
	makeSSHUser(t)
	startNamespaceController(t)
	f, account, _ := inSession(t)
	c := clientOf(t, directly(t, account))
	running, idle, ended := open(t, c, f, goclient.SessionOptions{}), open(t, c, f, goclient.SessionOptions{}), open(t, c, f, goclient.SessionOptions{})
	_, _ = ended.Exec(t.Context(), goclient.Command{Shell: "exit 0"})
	ends(t, 5*time.Second, ended, "Exited")
	ran := make(chan error, 1)
	marks := marksOn(t, f.server)
	go func() {
		_, err := running.Exec(t.Context(), goclient.Command{Shell: trapped(marks)})
		ran <- err
	}()
	awaitMark(t, 10*time.Second, marks, "started")
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.pool.Namespace}}
	remove(t, space)
	eventually(t, 60*time.Second, "the namespace is gone", func() (bool, string) {
		err := env.client.Get(t.Context(), client.ObjectKeyFromObject(space), space)
		return apierrors.IsNotFound(err), fmt.Sprint(err, space.Status.Conditions)
	})
	if err := <-ran; !errors.Is(err, goclient.ErrUnknown) {
		t.Errorf("the command ended with %v", err)
	}
	awaitMark(t, 10*time.Second, marks, "signaled")
	if _, err := clientOf(t, env.config).Session(f.pool.Namespace, idle.Name()).Get(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("a session is left: %v", err)
	}
}
