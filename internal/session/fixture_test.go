package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// local runs commands on this machine; its first words stand for sh.
type local struct {
	shell []string
	dir   string
}

// shells are those that real targets have as sh.
var shells = map[string][]string{
	"dash":       {"dash"},
	"bash as sh": {"bash", "--posix"},
	"busybox":    {"busybox", "sh"},
}

// Exec implements driver.Execer.
func (l local) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	if len(command.Argv) != 1 || command.Argv[0] != "sh" {
		return driver.ExitStatus{}, &driver.Error{Reason: driver.ProtocolError, Message: "only sh"}
	}
	process := exec.Command(l.shell[0], l.shell[1:]...)
	process.Dir, process.Stdout, process.Stderr = l.dir, streams.Stdout, streams.Stderr
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := process.StdinPipe()
	if err != nil {
		return driver.ExitStatus{}, err
	}
	if err := process.Start(); err != nil {
		return driver.ExitStatus{}, &driver.Error{Reason: driver.ProtocolError, Message: err.Error()}
	}
	go func() {
		_, _ = io.Copy(stdin, streams.Stdin)
		_ = stdin.Close()
	}()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-process.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err = process.Wait()
	if ctx.Err() != nil {
		return driver.ExitStatus{}, &driver.Error{Reason: driver.Timeout, Started: true, Message: "canceled"}
	}
	return statusOf(err)
}

func statusOf(err error) (driver.ExitStatus, error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return driver.ExitStatus{}, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return driver.ExitStatus{Code: 128 + int(status.Signal()), Signal: "KILL"}, nil
	}
	return driver.ExitStatus{Code: exit.ExitCode()}, nil
}

// start starts a shell that is closed at the end of the test.
func start(t testing.TB, execer driver.Execer, env map[string]string) *session.Shell {
	t.Helper()
	shell, err := session.Start(t.Context(), execer, driver.Place{}, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shell.Close)
	return shell
}

// result is the output and the exit code of a command.
type result struct {
	Out, Err string
	Code     int
}

// run runs a command line that completes.
func run(t testing.TB, shell *session.Shell, line string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status, err := shell.Run(t.Context(), driver.Command{Shell: line}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return result{stdout.String(), stderr.String(), status.Code}
}

// inEveryShell runs a test in a fresh directory with each of the shells.
func inEveryShell(t *testing.T, test func(*testing.T, local)) {
	t.Helper()
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) { test(t, local{shell: shell, dir: t.TempDir()}) })
	}
}

// wantOutcome checks the outcome and the reason of an error.
func wantOutcome(t testing.TB, err error, outcome driver.Outcome, reason driver.Reason) {
	t.Helper()
	if got := driver.OutcomeOf(err); got != outcome {
		t.Errorf("the outcome is %s (%v), want %s", got, err, outcome)
	}
	if err != nil && driver.AsError(err).Reason != reason {
		t.Errorf("the reason is %s (%v), want %s", driver.AsError(err).Reason, err, reason)
	}
}

func hasWords(text string, words ...string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}
