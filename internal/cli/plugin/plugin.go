// Package plugin is what the commands of the kubectl plugin are made with: the
// Factory that each of them gets, flags that mean the same everywhere, and
// completion.
//
// A command is a struct of options with three steps, which RunE puts in order:
// complete fills in what arguments, configuration and environment say; validate
// refuses what is known to be wrong before anything is asked; run does the work.
//
//	func New(f *plugin.Factory) *cobra.Command {
//		o := &options{Factory: f}
//		return &cobra.Command{Use: "status [POOL]", RunE: plugin.RunE(o.complete, o.validate, o.run)}
//	}
//
// Trade-off: a command can reach everything that the Factory has, so what it needs
// does not show in its signature. In return no command asks for more than it
// uses: clients are made when they are first asked for.
package plugin

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
)

// Factory gives commands their streams, their cluster and the time.
type Factory struct {
	genericiooptions.IOStreams

	// Name that usages print: "kubectl connpool" or "connpool".
	Name string
	// Version of this binary.
	Version string
	// Now is the time from which ages are counted.
	Now     func() time.Time
	Cluster *cluster.Cluster
}

// New returns the factory of a process.
func New(name, version string, streams genericiooptions.IOStreams) *Factory {
	return &Factory{IOStreams: streams, Name: name, Version: version, Now: time.Now, Cluster: cluster.New(name, version)}
}

// NewRoot returns the command above all others. It has the flags that say which
// cluster, and no commands yet.
func (f *Factory) NewRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           f.Name,
		SilenceErrors: true,
		SilenceUsage:  true,
		// The script is for both names of the program, which cobra's own is not.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		// A name of two words, such as "kubectl connpool", is one command here.
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: f.Name},
	}
	root.SetIn(f.In)
	root.SetOut(f.Out)
	root.SetErr(f.ErrOut)
	setHelp(root)
	f.Cluster.Register(root.PersistentFlags())
	CompleteFlag(root, "namespace", Names(f.listNamespaces))
	CompleteFlag(root, "context", Names(f.listContexts))
	return root
}

// OwnFailures is the annotation of a command whose own failures have the exit code
// exit.NotStarted, so that a caller does not take them for the remote command's.
const OwnFailures = "connpool.dev/own-failures"

// Execute runs a command line and returns the exit code.
func (f *Factory) Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	failed := exit.Failed
	if command != nil && command.Annotations[OwnFailures] != "" {
		failed = exit.NotStarted
	}
	return exit.Report(f.ErrOut, err, failed)
}

// RunE puts the three steps of a command in order.
func RunE(
	complete func(command *cobra.Command, args []string) error, validate func() error, run func(context.Context) error,
) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		if err := complete(command, args); err != nil {
			return err
		}
		if err := validate(); err != nil {
			return err
		}
		return run(command.Context())
	}
}
