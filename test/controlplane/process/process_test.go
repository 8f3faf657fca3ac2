package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const shell = "/bin/sh"

// owner, when set, makes this test binary an owner. It starts a process whose files
// are in the directory that the variable names, and waits for its end.
const owner = "CONNPOOL_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(owner); dir != "" {
		own(dir)
	}
	goleak.VerifyTestMain(m)
}

func own(dir string) {
	p, err := Start(Command{Name: "shell", Path: shell, Args: []string{"-c", "sleep 60"}, Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Pid())
	<-p.Exited()
}

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Command{Name: "shell", Path: shell, Args: []string{"-c", script}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

func TestStopIsPatientFirst(t *testing.T) {
	p := start(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done`)
	awaitLog(t, p, "ready")
	p.Stop(time.Minute)
	if log := p.LastLines(1); !strings.Contains(log, "bye") {
		t.Errorf("the log ends with %q, want the trap's output", log)
	}
}

func TestStopKillsAProcessThatIgnoresSIGTERM(t *testing.T) {
	p := start(t, `trap '' TERM; sleep 60 & echo $!; wait; wait`)
	awaitLog(t, p, "\n")
	child, err := strconv.Atoi(strings.TrimSpace(p.LastLines(1)))
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(10 * time.Millisecond)
	awaitGone(t, child)
	p.Stop(time.Minute) // a second call does nothing
}

func TestErrTellsTheEndOfTheLog(t *testing.T) {
	p := start(t, `echo port taken; exit 3`)
	<-p.Exited()
	err := p.Err()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "port taken") {
		t.Errorf("%v, want the status and the log", err)
	}
}

func TestErrIsNilWhileItRuns(t *testing.T) {
	if err := start(t, `sleep 60`).Err(); err != nil {
		t.Error(err)
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	_, err := Start(Command{Name: "no-such-program", Path: filepath.Join(t.TempDir(), "no-such-program"), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("%v, want the name", err)
	}
}

func awaitLog(t *testing.T, p *Process, word string) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if log, _ := os.ReadFile(p.command.file("log")); strings.Contains(string(log), word) {
			return
		}
		select {
		case <-ticker.C:
		case <-p.Exited():
			t.Fatal(p.Err())
		}
	}
}

// TestOwnerKilled kills an owner without a warning.
func TestOwnerKilled(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), owner+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(bufio.NewReader(out), &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	awaitGone(t, pid)
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 1000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		<-ticker.C
	}
	t.Errorf("process %d outlives its owner", pid)
}

func TestATiedCommandEndsWithItsChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, shell, "-c", "sleep 60 & echo $!; wait")
	Tie(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = cmd.Wait()
	awaitGone(t, child)
}
