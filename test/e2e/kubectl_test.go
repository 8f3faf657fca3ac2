//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connpool/connpool/test/dockerd"
)

// kubectl runs the stock client through the pool of the cluster.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return through(t, "cluster", append([]string{"kubectl", "--namespace=" + appsNamespace}, args...)...)
}

func kubectlWords(args ...string) []string {
	return throughWords("cluster", append([]string{"kubectl", "--namespace=" + appsNamespace}, args...))
}

func TestKubectlWorksThroughAPool(t *testing.T) {
	t.Run("get lists pods", func(t *testing.T) {
		if out := kubectl(t, "get", "pods", "-o", "name"); !strings.Contains(out, "pod/web\n") {
			t.Errorf("it lists %q", out)
		}
	})
	t.Run("get says that the pool's account may not read elsewhere", func(t *testing.T) {
		got := runWith(t, nil, throughWords("cluster", []string{"kubectl", "--namespace=kube-system", "get", "secrets"})...)
		if got.code == 0 || !strings.Contains(got.stderr, "Forbidden") || !strings.Contains(got.stderr, "system:serviceaccount:apps:connpool") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("apply and wait and logs -f see a pod through its life", podLife)
	t.Run("exec runs a command with input and its exit code", func(t *testing.T) {
		words := kubectlWords("exec", "-i", "web", "--", "sh", "-c", "wc -c; exit 4")
		if got := runWith(t, strings.NewReader(strings.Repeat("x", 200_000)), words...); got.stdout != "200000\n" || got.code != 4 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("exec -it has a terminal", func(t *testing.T) {
		if out := onTerminal(t, kubectlWords("exec", "-it", "web", "--", "tty")...); !strings.Contains(out, "/dev/") {
			t.Errorf("tty says %q", out)
		}
	})
	t.Run("port-forward forwards", func(t *testing.T) {
		forward := follow(t, kubectlWords("port-forward", "pod/web", ":8080")...)
		checkPage(t, forward.await("127.0.0.1:"))
	})
	t.Run("cp copies both ways", kubectlCopy)
}

func podLife(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "pod.yaml")
	err := os.WriteFile(manifest, fmt.Appendf(nil, `
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: talker
    image: %s
    imagePullPolicy: Never
    command: [sh, -c, "echo first; until [ -e /go ]; do usleep 20000; done; echo second; sleep 1000"]
`, dockerd.Image), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "apply", "-f", manifest)
	kubectl(t, "wait", "--for=condition=Ready", "pod/talker", "--timeout=30s")
	logs := follow(t, kubectlWords("logs", "-f", "talker")...)
	logs.await("first")
	kubectl(t, "exec", "talker", "--", "touch", "/go")
	logs.await("second")
	kubectl(t, "delete", "-f", manifest)
}

func kubectlCopy(t *testing.T) {
	dir := t.TempDir()
	content := strings.Repeat("0123456789abcdef", 1<<16)
	if err := os.WriteFile(filepath.Join(dir, "there"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "cp", filepath.Join(dir, "there"), "web:/tmp/copied")
	kubectl(t, "cp", "web:/tmp/copied", filepath.Join(dir, "back"))
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(back) != content {
		t.Errorf("%d bytes came back of %d, %v", len(back), len(content), err)
	}
}

func TestHelmWorksThroughAPool(t *testing.T) {
	helm := func(args ...string) string {
		t.Helper()
		return through(t, "cluster", append([]string{"helm", "--namespace=" + appsNamespace}, args...)...)
	}
	helm("install", "tiny", "testdata/chart", "--set=greeting=hello", "--wait", "--timeout=30s")
	if out := helm("list", "--short"); out != "tiny\n" {
		t.Errorf("list says %q", out)
	}
	if out := kubectl(t, "get", "configmap", "tiny", "-o", "jsonpath={.data.greeting}"); out != "hello" {
		t.Errorf("the chart's ConfigMap greets with %q", out)
	}
	helm("upgrade", "tiny", "testdata/chart", "--set=greeting=again")
	helm("uninstall", "tiny")
	if out := helm("list", "--short"); out != "" {
		t.Errorf("after uninstall, list says %q", out)
	}
}
