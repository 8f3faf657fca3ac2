//go:build !windows

package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// plugin starts a command line in a process of its own, and returns what it
// writes.
func (w *world) plugin(arguments ...string) (*exec.Cmd, io.Reader) {
	w.t.Helper()
	command := exec.CommandContext(w.t.Context(), os.Args[0], append([]string{"--kubeconfig", w.kubeconfig()}, arguments...)...)
	command.Env = append(os.Environ(), asPlugin+"=true")
	stdout, err := command.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		w.t.Fatal(err)
	}
	return command, stdout
}

func TestTheFirstCtrlCCancelsAndTheSecondLeaves(t *testing.T) {
	w := shop(t)
	canceled := make(chan struct{})
	w.remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(canceled)
		// Nobody reads so much, so that the plugin cannot end by itself.
		for ctx.Err() == nil {
			fmt.Fprintf(streams.Stdout, "%4096d\n", 1)
		}
		return fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	command, stdout := w.plugin("exec", "web", "--", "yes")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = command.Process.Signal(os.Interrupt)
	<-canceled
	_ = command.Process.Signal(os.Interrupt)
	_ = command.Wait()
	status, ok := command.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != syscall.SIGINT && status.ExitStatus() != exitInterrupted {
		t.Errorf("it ended as %v", command.ProcessState)
	}
}

func TestACtrlCIsAnExitCode(t *testing.T) {
	w := shop(t)
	canceled := make(chan struct{})
	w.remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(canceled)
		fmt.Fprintln(streams.Stdout, "begun")
		<-ctx.Done()
		return fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	command, stdout := w.plugin("exec", "web", "--", "sleep", "1000")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = command.Process.Signal(os.Interrupt)
	<-canceled
	if err := command.Wait(); command.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("it ended with %v", err)
	}
}
