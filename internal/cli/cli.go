// Package cli is the kubectl plugin: what a person at a terminal does with
// pools and their connections.
//
// The binary works as `kubectl connpool` and, under its other name, as
// `connpool`. Each command is a struct of options with complete, validate and
// run, in a file of its own, and gets all it needs from the factory: streams,
// namespace, and clients of the two APIs that are made when first asked for. So
// `exec` pays for one request and nothing else: there is no discovery, no
// generated clientset and no cache on its way.
//
// Usage:
//
//	os.Exit(cli.Main(os.Args, version, streams))
//
// Trade-off: the two APIs are spoken to by their own types over plain REST
// clients. That is more code than a dynamic client with discovery would need,
// and saves the tens of milliseconds which that would cost before every command.
package cli

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// pluginPrefix is what kubectl calls its plugins by.
const pluginPrefix = "kubectl-"

// Main runs the command line args, whose first word is the name it was called
// by, and returns the exit code of the process.
func Main(args []string, version string, streams genericiooptions.IOStreams) int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	return newFactory(calledAs(args[0]), version, streams).execute(ctx, args[1:])
}

// untilSignal is a context that the first signal ends. From then on signals do
// what they do to any process, so that a second one leaves at once.
func untilSignal(ctx context.Context) (until context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		// In this order: whoever sees that the context has ended can rely on it.
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}

// execute runs a command line and returns the exit code.
func (f *factory) execute(ctx context.Context, args []string) int {
	root := newRootCommand(f) //nolint:contextcheck // completion takes its context from cobra
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	return f.report(command, err)
}

// calledAs is the name to print in usages: what was typed.
func calledAs(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".exe")
	if rest, ok := strings.CutPrefix(name, pluginPrefix); ok {
		return "kubectl " + strings.ReplaceAll(rest, "_", "-")
	}
	return name
}

// runnable is a command between its flags and its work.
type runnable interface {
	// complete fills in what arguments, configuration and environment say.
	complete(command *cobra.Command, args []string) error
	// validate refuses what can be known to be wrong before anything is asked.
	validate() error
	// run does the work.
	run(ctx context.Context) error
}

// runs makes the RunE of a command.
func runs(o runnable) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		if err := o.complete(command, args); err != nil {
			return err
		}
		if err := o.validate(); err != nil {
			return err
		}
		return o.run(command.Context())
	}
}
