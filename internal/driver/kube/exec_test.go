package kube

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/connpool/connpool/internal/driver"
)

// result is what became of a command.
type result struct {
	stdout, stderr string
	status         driver.ExitStatus
}

// output runs a command and returns what it wrote.
func output(t testing.TB, conn *conn, command driver.Command) (result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	status, err := conn.Exec(ctx, command, driver.Streams{Stdout: &out, Stderr: &errs})
	return result{out.String(), errs.String(), status}, err
}

// say runs echo in a pod.
func say(t testing.TB, conn *conn, word string) (string, error) {
	t.Helper()
	got, err := output(t, conn, driver.Command{Place: web, Argv: []string{"echo", word}})
	return got.stdout, err
}

func TestCommandsSayWhatTheyLack(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	argv := []string{"true"}
	tests := map[string]struct {
		command driver.Command
		reason  driver.Reason
		word    string
	}{
		"no pod":                         {driver.Command{Argv: argv}, driver.NotFound, "name the pod"},
		"a pod that does not exist":      {driver.Command{Place: driver.Place{Pod: "absent"}, Argv: argv}, driver.NotFound, "there is no pod absent in namespace default of the cluster; running: annotated, large, misled, two, web"},
		"a part of the name of a pod":    {driver.Command{Place: driver.Place{Pod: "we"}, Argv: argv}, driver.NotFound, "running: web, annotated, large"},
		"a pod on no node":               {driver.Command{Place: driver.Place{Pod: "pending"}, Argv: argv}, driver.NotFound, "host assigned"},
		"a pod that is a path":           {driver.Command{Place: driver.Place{Pod: "web/log"}, Argv: argv}, driver.NotFound, "correct the name"},
		"a namespace that leads out":     {driver.Command{Place: driver.Place{Pod: "web", Namespace: ".."}, Argv: argv}, driver.NotFound, "correct the name"},
		"a namespace that is missing":    {driver.Command{Place: driver.Place{Pod: "web", Namespace: "nowhere"}, Argv: argv}, driver.NotFound, "namespace nowhere of the cluster; no pod runs there"},
		"a container that is missing":    {driver.Command{Place: driver.Place{Pod: "web", Container: "db"}, Argv: argv}, driver.NotFound, "pod web in namespace default has no container db; it has app"},
		"one of many containers":         {driver.Command{Place: driver.Place{Pod: "two"}, Argv: argv}, driver.NotFound, "pod two in namespace default has several containers; name one: app, log"},
		"a container that does not run":  {driver.Command{Place: driver.Place{Pod: "two", Container: "log"}, Argv: argv}, driver.NotFound, "does not run this container"},
		"an annotation that is wrong":    {driver.Command{Place: driver.Place{Pod: "misled"}, Argv: argv}, driver.NotFound, defaultContainerAnnotation},
		"a subsystem":                    {driver.Command{Place: web, Subsystem: "sftp"}, driver.ProtocolError, "no subsystems"},
		"a variable that env cannot set": {driver.Command{Place: web, Argv: argv, Env: map[string]string{"a=b": ""}}, driver.ProtocolError, "rename it"},
		"a program that env would take for a variable": {
			driver.Command{Place: web, Argv: []string{"a=b"}, Env: map[string]string{"A": ""}}, driver.ProtocolError, "by a shell",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := output(t, conn, test.command)
			if got := driver.OutcomeOf(err); got != driver.NotStarted {
				t.Errorf("outcome %s, want %s", got, driver.NotStarted)
			}
			if got := wantError(t, err, test.reason, driver.StageStart); !strings.Contains(got.Message, test.word) {
				t.Errorf("message %q, want %q in it", got.Message, test.word)
			}
		})
	}
}

func TestWhatAContainerRuns(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	file := filepath.Join(t.TempDir(), "no-program")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		command        driver.Command
		stdout, stderr string
		code           int
	}{
		"the default container of a pod with long annotations": {
			command: driver.Command{Place: driver.Place{Pod: "large"}, Shell: "echo $CONTAINER"}, stdout: "log\n",
		},
		"the default container of a pod": {
			command: driver.Command{Place: driver.Place{Pod: "annotated"}, Shell: "echo $CONTAINER"}, stdout: "log\n",
		},
		"another container": {
			command: driver.Command{Place: driver.Place{Pod: "annotated", Container: "app"}, Shell: "echo $CONTAINER"}, stdout: "app\n",
		},
		"environment variables": {
			command: driver.Command{Place: web, Shell: `echo "$A:$B"`, Env: map[string]string{"A": "a b", "B": "x=y"}}, stdout: "a b:x=y\n",
		},
		"environment variables of a program": {
			command: driver.Command{Place: web, Argv: []string{"printenv", "A"}, Env: map[string]string{"A": "-i"}}, stdout: "-i\n",
		},
		"a program that does not exist, as a shell would put it": {
			command: driver.Command{Place: web, Argv: []string{"connpool-no-such-program"}}, stderr: "executable file not found", code: 127,
		},
		"a program that may not run, as a shell would put it": {
			command: driver.Command{Place: web, Argv: []string{file}}, stderr: "permission denied", code: 126,
		},
		"a shell that has nothing to do": {command: driver.Command{Place: web}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := output(t, conn, test.command)
			if err != nil || got.stdout != test.stdout || !strings.Contains(got.stderr, test.stderr) || got.status.Code != test.code {
				t.Errorf("%+v, error %v", got, err)
			}
		})
	}
}

// userWith returns the endpoint of a user with these RBAC rules.
func userWith(t *testing.T, name string, rules ...rbacv1.PolicyRule) driver.Endpoint {
	t.Helper()
	plane := cluster(t).plane
	client, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: name}},
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config, err := plane.User(name)
	if err != nil {
		t.Fatal(err)
	}
	return endpointOf(t, config)
}

// eventually repeats what depends on the server's caches of RBAC.
func eventually(t *testing.T, try func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(patience); !try(); {
		select {
		case <-deadline:
			t.Fatal("it did not happen")
		case <-ticker.C:
		}
	}
}

func TestAUserWithoutPermissionsIsConnectedAndToldWhatIsForbidden(t *testing.T) {
	conn := mustDial(t, Options{}, userWith(t, "powerless"))
	if got := conn.Info().ServerVersion; !strings.HasPrefix(got, "Kubernetes v1.") {
		t.Errorf("version %q", got)
	}
	if err := conn.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	_, err := output(t, conn, driver.Command{Place: web, Argv: []string{"true"}})
	got := wantError(t, err, driver.Forbidden, driver.StageStart)
	if got.Started || !strings.Contains(got.Message, "pods/exec") || !strings.Contains(got.Message, "RBAC") {
		t.Errorf("%+v", got)
	}
	_, err = conn.ForwardPod(t.Context(), web, 80)
	wantError(t, err, driver.Forbidden, driver.StageStart)
}

func TestAUserWhoMayOnlyRunCommandsCan(t *testing.T) {
	conn := mustDial(t, Options{}, userWith(t, "runner",
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create", "get"}}))
	eventually(t, func() bool {
		stdout, err := say(t, conn, "hello")
		return err == nil && stdout == "hello\n"
	})
}

func TestUnreadInputIsNotTakenForADeadServer(t *testing.T) {
	conn := mustDial(t, Options{}, brief(admin(t)))
	// Longer than the time after which a silent server is given up.
	status, err := conn.Exec(t.Context(), driver.Command{Place: web, Shell: "sleep 2; exit 3"},
		driver.Streams{Stdin: io.LimitReader(neverEnding{}, 64<<20)})
	if err != nil || status.Code != 3 {
		t.Errorf("status %+v, error %v", status, err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestAReaderThatStopsForAWhileLosesNothing(t *testing.T) {
	conn := mustDial(t, Options{}, brief(admin(t)))
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), driver.Command{Place: web, Shell: "head -c 8388608 /dev/zero"}, driver.Streams{Stdout: writer})
		_ = writer.CloseWithError(err)
		ended <- err
	}()
	first := make([]byte, 1)
	if _, err := io.ReadFull(reader, first); err != nil {
		t.Fatal(err)
	}
	// As long as the time after which a silent server is given up.
	if _, err := output(t, conn, driver.Command{Place: web, Argv: []string{"sleep", "2"}}); err != nil {
		t.Fatal(err)
	}
	rest, err := io.Copy(io.Discard, reader)
	if rest != 8<<20-1 || err != nil {
		t.Errorf("%d bytes, error %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestACanceledCommandSaysThatItMayRunOn(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})
	input, _ := io.Pipe()
	_, err := conn.Exec(ctx, driver.Command{Place: web, Shell: "echo begun; cat"}, driver.Streams{Stdin: input, Stdout: begun})
	_ = input.Close()
	got := wantError(t, err, driver.Timeout, driver.StageRun)
	if !got.Started || !strings.Contains(got.Message, "may run on in the pod") || strings.Contains(got.Message, "signaled") {
		t.Errorf("%+v", got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
