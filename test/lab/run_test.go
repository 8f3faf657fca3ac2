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

// runFlags let runs be where other labs are.
var runFlags = []string{"--ssh-port=0", "--metrics-port=0"}

// TestARunEndsWhenTheSamplesAreWarm is `make run` from its start to its end,
// with the operator of this checkout.
func TestARunEndsWhenTheSamplesAreWarm(t *testing.T) {
	p := newPlace(t)
	out := p.run("run", append(runFlags, "--once")...)
	for _, want := range []string{"READY-TARGETS", "Degraded", "Unreachable", "as they should be", "nothing is left running"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
	p.checkNothingLeft()
}

func TestARunEndsWithItsOperator(t *testing.T) {
	p := newPlace(t)
	run, out := p.start()
	if err := syscall.Kill(p.awaitOperator(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err == nil {
		t.Error("the run counts as a success")
	}
	if !strings.Contains(out.String(), "manager ended (signal: killed)") {
		t.Errorf("the output does not say why the run ended:\n%s", out)
	}
	p.checkNothingLeft()
}

// TestARunEndsWithItsParent does what becomes of `make run` when make is killed.
func TestARunEndsWithItsParent(t *testing.T) {
	p := newPlace(t)
	run, _ := p.start()
	p.awaitOperator()
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	held, err := p.await(stopLimit)
	if err != nil {
		t.Fatal(err)
	}
	held.release()
	_ = run.Wait()
	p.checkNothingLeft()
}

// start starts a run whose parent is a shell, which is what it returns.
func (p place) start() (*exec.Cmd, *bytes.Buffer) {
	p.t.Helper()
	executable, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	flags := append([]string{"-c", `"$@" & wait $!`, "sh", executable, "run", "--dir=" + string(p.folder), "--api-port=0"}, runFlags...)
	out := new(bytes.Buffer)
	cmd := exec.Command("/bin/sh", flags...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd, out
}

// awaitOperator returns when the operator runs.
func (p place) awaitOperator() (pid int) {
	p.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(5 * time.Minute) // it is built first
	for {
		if pid, err := process.ReadPid(p.path("manager.pid")); err == nil && pid != 0 {
			return pid
		}
		select {
		case <-ticker.C:
		case <-timeout:
			p.t.Fatal("the operator does not start")
		}
	}
}

func (p place) checkNothingLeft() {
	p.t.Helper()
	if left := p.leftovers(); len(left) > 0 {
		p.t.Errorf("processes %v are left running", left)
	}
	if _, isRunning := p.running(); isRunning {
		p.t.Error("the folder still has a lab")
	}
}
