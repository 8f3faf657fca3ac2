//go:build !windows

package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
)

// start runs a command line in a process of its own, and returns what it prints.
func start(t *testing.T, f *clitest.Fixture, arguments ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], append([]string{"--kubeconfig", f.Kubeconfig()}, arguments...)...)
	command.Env = append(os.Environ(), asPlugin+"=true")
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = &bytes.Buffer{}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, stdout
}

func TestTheFirstCtrlCCancelsAndTheSecondLeaves(t *testing.T) {
	f := shop(t)
	canceled := make(chan struct{})
	f.Remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(canceled)
		// No reader takes so much, so that the plugin cannot end by itself.
		for ctx.Err() == nil {
			fmt.Fprintf(streams.Stdout, "%4096d\n", 1)
		}
		return clitest.Fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	command, stdout := start(t, f, "exec", "web", "--", "yes")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = command.Process.Signal(os.Interrupt)
	<-canceled
	_ = command.Process.Signal(os.Interrupt)
	_ = command.Wait()
	status, ok := command.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != syscall.SIGINT && status.ExitStatus() != exit.Interrupted {
		t.Errorf("it ended as %v", command.ProcessState)
	}
}

func TestACtrlCIsAnExitCode(t *testing.T) {
	f := shop(t)
	canceled := make(chan struct{})
	f.Remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(canceled)
		fmt.Fprintln(streams.Stdout, "begun")
		<-ctx.Done()
		return clitest.Fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	command, stdout := start(t, f, "exec", "web", "--", "sleep", "1000")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = command.Process.Signal(os.Interrupt)
	<-canceled
	if err := command.Wait(); command.ProcessState.ExitCode() != exit.Interrupted {
		t.Errorf("it ended with %v", err)
	}
}

func TestSignalsGoToTheCommand(t *testing.T) {
	clitest.TempDir(t)
	f := shop(t)
	f.API = http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, `{"ApiVersion":"1.41"}`) })
	script := `trap 'echo caught; exit 3' TERM; echo ready; while :; do read line || sleep 0.05; done`
	command, stdout := start(t, f, "proxy", "web/web-1", "--", "sh", "-c", script)
	printed := clitest.Lines{T: t, Scanner: bufio.NewScanner(stdout)}
	printed.Next("ready")
	_ = command.Process.Signal(syscall.SIGTERM)
	printed.Next("caught")
	if _ = command.Wait(); command.ProcessState.ExitCode() != 3 {
		t.Errorf("it ended as %v", command.ProcessState)
	}
}
