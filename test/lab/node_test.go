//go:build e2e

package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/leftovers"
)

// TestANodeJoinsALabThatRuns does what the tutorial says: `make run` in one
// terminal, `make lab-node-up` in another.
func TestANodeJoinsALabThatRuns(t *testing.T) {
	f := newFixture(t)
	f.start().awaitOperator()
	out := f.run("node-up")
	for _, want := range []string{"node-1 is ready", "exec ci --container web", "lab-node-down"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
	f.kubectl("wait", "--for=condition=Ready", "connectionpool/ci", "connectionpool/cluster", "--timeout=60s")
	f.kubectl("wait", "--for=condition=Ready", "pod/web", "--namespace="+appsNamespace, "--timeout=60s")
	if got := f.kubectl("connpool", "exec", "ci", "--container=web", "--", "echo", "hello"); got != "hello\n" {
		t.Errorf("in the container: %q", got)
	}
	if got := f.kubectl("connpool", "exec", "cluster", "--pod=web", "--", "echo", "hello"); got != "hello\n" {
		t.Errorf("in the pod: %q", got)
	}
	if out, err := f.try("node-up"); err == nil || !strings.Contains(out, "already running") {
		t.Errorf("a second node: %v, %s", err, out)
	}
	f.run("node-down")
	f.checkNoNode()
}

// TestANodeStartsALabAndEndsWithIt is `make lab-node-up` first, and `make run`
// later.
func TestANodeStartsALabAndEndsWithIt(t *testing.T) {
	f := newFixture(t)
	if out := f.run("node-up", "--ssh-port=0"); !strings.Contains(out, "make run") {
		t.Errorf("the output does not say how to start the operator:\n%s", out)
	}
	if out := f.run("status"); !strings.Contains(out, "node and Docker engine: running") {
		t.Errorf("status: %s", out)
	}
	out := f.run("run", append(runFlags, "--once")...)
	for _, want := range []string{"ci ", "cluster ", "as they should be", "the lab runs on"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
	f.run("down")
	f.checkNothingLeft()
	f.checkNoNode()
}

// kubectl runs the kubectl of the checkout, which finds the plugin beside it.
func (f fixture) kubectl(args ...string) string {
	f.t.Helper()
	root, err := binaries.Checkout()
	if err != nil {
		f.t.Fatal(err)
	}
	bin := filepath.Join(root, "bin")
	f.t.Setenv("KUBECONFIG", f.kubeconfig())
	f.t.Setenv("PATH", bin+":"+filepath.Join(bin, "k8s")+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput()
	if err != nil {
		f.t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (f fixture) checkNoNode() {
	f.t.Helper()
	if left := leftovers.Mounts(string(f.folder)); len(left) > 0 {
		f.t.Errorf("mounts are left: %v", left)
	}
	if _, isRunning := f.node().running(); isRunning {
		f.t.Error("the node runs on")
	}
	if left, _ := filepath.Glob(f.node().path("*/*")); len(left) > 0 {
		f.t.Errorf("files are left: %v", left)
	}
}
