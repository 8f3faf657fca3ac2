package dockerd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVariable makes this test's binary start an engine with a container and
// die with it.
const childVariable = "CONNPOOL_TEST_DIE_WITH_ENGINE"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		dieWithEngine()
	}
	goleak.VerifyTestMain(m)
}

func dieWithEngine() {
	engine, err := New(context.Background(), Options{})
	if err == nil {
		_, err = engine.Container(context.Background())
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(engine.Dir)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func startContainer(t *testing.T, engine *Engine) string {
	t.Helper()
	name, err := engine.Container(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func echo(t *testing.T, engine *Engine, container string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return engine.Docker(ctx, "exec", container, "echo", "served")
}

func TestContainersOutliveTheirEngineButNotItsStop(t *testing.T) {
	engine := Start(t)
	container := startContainer(t, engine)
	for name, end := range map[string]func(){"kill": engine.Kill, "shutdown": engine.Shutdown} {
		end()
		if _, err := echo(t, engine, container); err == nil {
			t.Errorf("%s: the engine still serves", name)
		}
		if err := engine.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out, err := echo(t, engine, container); out != "served\n" || err != nil {
			t.Errorf("after %s and restart: output %q, error %v", name, out, err)
		}
	}
	engine.Kill() // so that Stop cannot ask for anything
	engine.Stop()
	wantNothingLeft(t, engine.Dir)
}

func TestAFrozenEngineAnswersNobodyUntilItThaws(t *testing.T) {
	engine := Start(t)
	container := startContainer(t, engine)
	engine.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if engine.answers(ctx) {
		t.Error("a frozen engine answers")
	}
	engine.Thaw()
	if out, err := echo(t, engine, container); out != "served\n" || err != nil {
		t.Errorf("thawed: output %q, error %v", out, err)
	}
	engine.Freeze()
	engine.Stop()
	wantNothingLeft(t, engine.Dir)
}

func TestTheEngineAsksForAClientCertificate(t *testing.T) {
	engine := Start(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"ca.pem": engine.CA, "cert.pem": engine.Cert, "key.pem": engine.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for files, want := range map[string]bool{dir: true, "": false} {
		arguments := []string{"--tls", "--tlscacert=" + engine.path("ca.crt"), "version"}
		if files != "" {
			arguments = []string{"--tlsverify", "--tlscacert=" + files + "/ca.pem", "--tlscert=" + files + "/cert.pem", "--tlskey=" + files + "/key.pem", "version"}
		}
		cmd, err := Command(t.Context(), "tcp://"+engine.TCP, arguments...)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("with certificate %t: error %v: %s", files != "", err, out)
		}
	}
}

func TestTheNextEngineCleansUpAfterADeadOwner(t *testing.T) {
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"=1")
	child.Stderr = os.Stderr
	dir, _ := child.Output()
	if len(dir) == 0 {
		t.Fatal("the child started no engine")
	}
	Start(t)
	wantNothingLeft(t, string(dir))
}

// wantNothingLeft looks for processes, mounts, control groups and files.
func wantNothingLeft(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is still there", dir)
	}
	if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(mounts), dir) {
		t.Errorf("mounts below %s are left", dir)
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*" + cgroupOf(dir)); len(groups) > 0 {
		t.Errorf("control groups are left: %s", groups)
	}
	for _, pid := range processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(line), dir) {
			t.Errorf("process %d is left: %s", pid, line)
		}
	}
}
