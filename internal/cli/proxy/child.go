package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/terminal"
)

// runChild runs a command on this machine and returns its exit code as an error.
// It passes signals on, so that the command decides when to end, and what serves
// the command does not end before.
func runChild(ctx context.Context, streams genericiooptions.IOStreams, words, environment []string) error {
	if ctx.Err() != nil {
		return exit.WithError(exit.Interrupted, errors.New("interrupted before the command started"))
	}
	child := exec.Command(words[0], words[1:]...) //nolint:noctx // only signals end it
	child.Stdin, child.Stdout, child.Stderr = streams.In, streams.Out, streams.ErrOut
	child.Env = environment
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return fmt.Errorf("the command was not run: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case err := <-ended:
			return childEnd(child.ProcessState, err)
		case s := <-signals:
			if !alreadyHas(streams.In, s) {
				_ = child.Process.Signal(s) // It may have ended just now.
			}
		}
	}
}

// alreadyHas reports whether the child got the signal, too: a terminal sends the
// signals of its keys to every process that it runs.
func alreadyHas(stdin any, s os.Signal) bool {
	return terminal.Is(stdin) && (s == os.Interrupt || s == syscall.SIGQUIT)
}

// childEnd reports the end of a command as a shell would.
func childEnd(state *os.ProcessState, err error) error {
	if state == nil {
		return err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exit.With(128 + int(status.Signal()))
	}
	if state.Success() {
		return err // copying its streams may have failed
	}
	return exit.With(state.ExitCode())
}
