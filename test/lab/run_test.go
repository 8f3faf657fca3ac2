package lab

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connpool/connpool/test/controlplane/process"
)

// runFlags let several labs run at the same time.
var runFlags = []string{"--ssh-port=0", "--metrics-port=0"}

// TestARunEndsWhenTheSamplesAreWarm is `make run` from its start to its end,
// with the operator of this checkout.
func TestARunEndsWhenTheSamplesAreWarm(t *testing.T) {
	f := newFixture(t)
	out := f.run("run", append(runFlags, "--once")...)
	for _, want := range []string{"READY-TARGETS", "Degraded", "Unreachable", "as they should be", "nothing is left running"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
	f.checkNothingLeft()
}

func TestARunEndsWithItsOperator(t *testing.T) {
	f := newFixture(t)
	run, out := f.start()
	if err := syscall.Kill(f.awaitOperator(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err == nil {
		t.Error("the run counts as a success")
	}
	if !strings.Contains(out.String(), "manager ended (signal: killed)") {
		t.Errorf("the output does not say why the run ended:\n%s", out)
	}
	f.checkNothingLeft()
}

// TestARunEndsWithItsParent kills make under `make run`.
func TestARunEndsWithItsParent(t *testing.T) {
	f := newFixture(t)
	run, _ := f.start()
	f.awaitOperator()
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	held, err := f.await(stopLimit)
	if err != nil {
		t.Fatal(err)
	}
	held.release()
	_ = run.Wait()
	f.checkNothingLeft()
}

// start starts a run whose parent is a shell, which is what it returns.
func (f fixture) start() (*exec.Cmd, *bytes.Buffer) {
	f.t.Helper()
	executable, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	flags := append([]string{"-c", `"$@" & wait $!`, "sh", executable, "run", "--dir=" + string(f.folder), "--api-port=0"}, runFlags...)
	out := new(bytes.Buffer)
	cmd := exec.Command("/bin/sh", flags...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	return cmd, out
}

// awaitOperator returns when the operator runs.
func (f fixture) awaitOperator() (pid int) {
	f.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(5 * time.Minute) // it is built first
	for {
		if pid, err := process.ReadPid(f.path("manager.pid")); err == nil && pid != 0 {
			return pid
		}
		select {
		case <-ticker.C:
		case <-timeout:
			f.t.Fatal("the operator does not start")
		}
	}
}

func (f fixture) checkNothingLeft() {
	f.t.Helper()
	if left := f.leftovers(); len(left) > 0 {
		f.t.Errorf("processes %v are left running", left)
	}
	if _, isRunning := f.running(); isRunning {
		f.t.Error("the folder still has a lab")
	}
}
