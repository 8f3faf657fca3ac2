//go:build e2e

package installed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connpool/connpool/client"
)

// features uses each feature once, as a user in a namespace would.
func features(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("copied\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	there, back := file+".there", file+".back"
	for _, tc := range []struct {
		words, want string
	}{
		{"kubectl get connectionpools", "host"},
		{"kubectl get connectiontargets -o wide", "engine"},
		{"kubectl get connections.live.connpool.dev", "host"},
		{"kubectl scale connectionpool/host --replicas=2", "scaled"},
		{"kubectl connpool exec host -- echo on a host", "on a host"},
		{"kubectl connpool exec engine --container=web -- echo in a container", "in a container"},
		{"kubectl connpool exec cluster --pod=web -- echo in a pod", "in a pod"},
		{"kubectl connpool run host --all -- echo everywhere", "everywhere"},
		{"kubectl connpool status", "cluster"},
		{"kubectl connpool top --once", "host"},
		{"kubectl connpool doctor", ""},
		{"kubectl connpool cp " + file + " host:" + there, ""},
		{"kubectl connpool cp host:" + there + " " + back, ""},
		{"kubectl connpool proxy engine -- docker ps --format={{.Names}}", "web"},
		{"kubectl connpool proxy cluster -- kubectl --namespace=apps get pods -o name", "pod/web"},
		{"kubectl connpool history", "host"},
	} {
		t.Run(tc.words, func(t *testing.T) {
			if out := run(t, strings.Fields(tc.words)...); !strings.Contains(out, tc.want) {
				t.Errorf("it says %q, want %q", out, tc.want)
			}
		})
	}
	if data, err := os.ReadFile(back); err != nil || string(data) != "copied\n" {
		t.Errorf("the file came back as %q, %v", data, err)
	}
	t.Run("session", session)
	t.Run("shell", shell)
	t.Run("the Go client, straight to the Service", goClient)
}

func session(t *testing.T) {
	name := strings.TrimSpace(plugin(t, "session", "create", "host/host"))
	defer plugin(t, "session", "delete", name)
	plugin(t, "session", "exec", name, "--", "cd", "/usr")
	if out := plugin(t, "session", "exec", name, "--", "pwd"); out != "/usr\n" {
		t.Errorf("pwd says %q", out)
	}
}

func shell(t *testing.T) {
	out := runInput(t, "tty; exit\n", "script", "--quiet", "--return", "--command", "kubectl connpool shell host", "/dev/null")
	if !strings.Contains(out, "/dev/pts/") {
		t.Errorf("tty says %q", out)
	}
}

func goClient(t *testing.T) {
	c, err := client.New(direct(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	result, err := c.Pool("default", "host").Exec(t.Context(), client.Command{Argv: []string{"echo", "directly"}})
	if err != nil || string(result.Stdout) != "directly\n" {
		t.Errorf("%+v, %v", result, err)
	}
}

// jobManifest is a Job as a user would write it: the operator's image has the plugin.
const jobManifest = `
apiVersion: batch/v1
kind: Job
metadata: {name: through-a-pool}
spec:
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: worker
      restartPolicy: Never
      containers:
      - name: command
        image: connpool:` + older + `
        imagePullPolicy: Never
        command: [/kubectl-connpool, exec, host, --, echo, from a Job]
`

func job(t *testing.T) {
	runInput(t, jobManifest, "kubectl", "--kubeconfig="+kubeconfig("admin"), "apply", "-f", "-")
	admin(t, "wait", "--for=condition=Complete", "job/through-a-pool", "--timeout=60s")
	if out := admin(t, "logs", "job/through-a-pool"); out != "from a Job\n" {
		t.Errorf("it says %q", out)
	}
	admin(t, "delete", "job", "through-a-pool")
}
