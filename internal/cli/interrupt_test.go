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
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
)

// interrupted starts exec, waits for its first line, sends signals, one after each
// further line, and returns how it ended.
func interrupted(t *testing.T, f *clitest.Fixture, signals []os.Signal, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	command, output := start(t, f, arguments...)
	var said bytes.Buffer
	lines := bufio.NewReader(output)
	for _, signal := range signals {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		said.WriteString(line)
		_ = command.Process.Signal(signal)
	}
	_, _ = io.Copy(&said, lines)
	_ = command.Wait()
	errors, _ := command.Stderr.(*bytes.Buffer)
	return command.ProcessState.ExitCode(), said.String(), errors.String()
}

// cleansUp is a command that writes what it got, and ends with an exit code.
func cleansUp(code int) clitest.RemoteFunc {
	return func(_ context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		fmt.Fprintln(streams.Stdout, "begun")
		fmt.Fprintf(streams.Stdout, "cleaning up after %s\n", <-streams.Signals)
		return clitest.Exits(code, "")
	}
}

func TestASignalReachesTheCommandAndItsEndIsAwaited(t *testing.T) {
	tests := map[string]struct {
		signal os.Signal
		name   string
		code   int
	}{
		"Ctrl-C, and the command fails":       {os.Interrupt, "INT", 3},
		"Ctrl-C, and the command ends well":   {os.Interrupt, "INT", 0},
		"SIGTERM, and its own code is passed": {syscall.SIGTERM, "TERM", 143},
		"SIGHUP, and its own code is passed":  {syscall.SIGHUP, "HUP", 7},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := shop(t)
			f.Signals, f.Remote = livev1alpha1.SignalsByServer, cleansUp(test.code)
			code, stdout, stderr := interrupted(t, f, []os.Signal{test.signal}, "exec", "web", "--", "deploy")
			if want := "begun\ncleaning up after " + test.name + "\n"; code != test.code || stdout != want || stderr != "" {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

func TestASecondSignalLeavesACommandThatDoesNotEnd(t *testing.T) {
	tests := map[string]struct {
		by     livev1alpha1.SignalsBy
		signal os.Signal
		code   int
		says   string
	}{
		"of a host":            {livev1alpha1.SignalsByServer, os.Interrupt, exit.Interrupted, "SIGINT was sent, but the command did not end before you left"},
		"which may not listen": {livev1alpha1.SignalsByServer, os.Interrupt, exit.Interrupted, "SSH servers may ignore that"},
		"of a container":       {livev1alpha1.SignalsByHelper, syscall.SIGTERM, exit.Terminated, "SIGTERM was sent"},
		"with a helper":        {livev1alpha1.SignalsByHelper, syscall.SIGHUP, exit.HungUp, "needs a shell in the container"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := shop(t)
			f.Signals = test.by
			f.Remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				fmt.Fprintln(streams.Stdout, "begun")
				fmt.Fprintf(streams.Stdout, "not for %s\n", <-streams.Signals)
				<-ctx.Done()
				return clitest.Fails(livev1alpha1.OutcomeUnknown, "", "canceled")
			}
			code, _, stderr := interrupted(t, f, []os.Signal{test.signal, test.signal}, "exec", "web", "--", "deploy")
			if code != test.code || !strings.Contains(stderr, test.says) || !strings.Contains(stderr, "how it ends is unknown (request") {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
		})
	}
}

func TestACommandThatCannotBeSignaledIsLeftAtOnce(t *testing.T) {
	tests := map[string]struct {
		by   livev1alpha1.SignalsBy
		says string
	}{
		"in a pod":                     {livev1alpha1.SignalsByNone, "Kubernetes has no way to signal a command"},
		"behind an operator before it": {"", "the operator was told to end the command"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := shop(t)
			f.Signals = test.by
			f.Remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				fmt.Fprintln(streams.Stdout, "begun")
				<-ctx.Done()
				return clitest.Fails(livev1alpha1.OutcomeUnknown, "", "canceled")
			}
			code, _, stderr := interrupted(t, f, []os.Signal{syscall.SIGTERM}, "exec", "web", "--", "deploy")
			if code != exit.Terminated || !strings.Contains(stderr, test.says) {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
		})
	}
}

func TestEveryCommandEndsWithTheCodeOfItsSignal(t *testing.T) {
	for signal, want := range map[os.Signal]int{os.Interrupt: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		for _, words := range [][]string{{"status"}, {"connections"}, {"check", "web-1"}} {
			t.Run(fmt.Sprint(signal, words), func(t *testing.T) {
				f, asked := shop(t), make(chan struct{}, 16)
				hang := func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client leaves
					asked <- struct{}{}
					<-r.Context().Done()
				}
				for _, path := range []string{
					"/apis/connpool.dev/v1alpha1/namespaces/shop/connectionpools",
					"/apis/connpool.dev/v1alpha1/namespaces/shop/connectiontargets",
					"/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections",
					"/apis/live.connpool.dev/v1alpha1/namespaces/shop/connectiontargets/web-1/check",
				} {
					f.Answers[path] = hang
				}
				command, _ := start(t, f, words...)
				<-asked
				_ = command.Process.Signal(signal)
				_ = command.Wait()
				if got := command.ProcessState.ExitCode(); got != want {
					t.Errorf("exit code %d, want %d: %s", got, want, command.Stderr)
				}
				if said := fmt.Sprint(command.Stderr); strings.Contains(said, "context canceled") {
					t.Errorf("said %q", said)
				}
			})
		}
	}
}
