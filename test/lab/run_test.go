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
var runFlags = []string{"--ssh-port=0", "--metrics-port=0", "--live-port=0"}

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
	run := f.start()
	if err := syscall.Kill(run.awaitOperator(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := run.wait(); err == nil {
		t.Error("the run counts as a success")
	}
	if !strings.Contains(run.out.String(), "manager ended (signal: killed)") {
		t.Errorf("the output does not say why the run ended:\n%s", run.out)
	}
	f.checkNothingLeft()
}

// TestARunEndsWithItsParent kills make under `make run`.
func TestARunEndsWithItsParent(t *testing.T) {
	f := newFixture(t)
	run := f.start()
	run.awaitOperator()
	if err := run.parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	held, err := f.await(stopLimit)
	if err != nil {
		t.Fatal(err)
	}
	held.release()
	_ = run.wait()
	f.checkNothingLeft()
}

// liveRun is a run in the foreground.
type liveRun struct {
	f      fixture
	parent *exec.Cmd
	out    *bytes.Buffer // to be read after the end
	ended  chan struct{}
	err    error // of the parent; after ended
}

// start starts a run whose parent is a shell.
func (f fixture) start() *liveRun {
	f.t.Helper()
	executable, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	flags := append([]string{"-c", `"$@" & wait $!`, "sh", executable, "run", "--dir=" + string(f.folder), "--api-port=0"}, runFlags...)
	run := &liveRun{f: f, parent: exec.Command("/bin/sh", flags...), out: new(bytes.Buffer), ended: make(chan struct{})}
	run.parent.Env = append(os.Environ(), asCommand+"=1")
	run.parent.Stdout, run.parent.Stderr = run.out, run.out
	if err := run.parent.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		defer close(run.ended)
		run.err = run.parent.Wait()
	}()
	return run
}

func (r *liveRun) wait() error {
	<-r.ended
	return r.err
}

// awaitOperator returns when the operator runs.
func (r *liveRun) awaitOperator() (pid int) {
	r.f.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(5 * time.Minute) // it is built first
	for {
		if pid, err := process.ReadPid(r.f.path("manager.pid")); err == nil && pid != 0 {
			return pid
		}
		select {
		case <-ticker.C:
		case <-r.ended:
			r.f.t.Fatalf("the run ended before its operator started: %v\n%s", r.err, r.out)
		case <-timeout:
			r.f.t.Fatal("the operator does not start")
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
