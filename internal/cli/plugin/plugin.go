// Package plugin is what the commands of the kubectl plugin are made with: the
// Factory that each of them gets, flags that mean the same everywhere, and
// completion.
//
// A command is a struct of options with three steps, of which it may lack the first
// two: complete fills in what arguments and environment say; validate refuses what
// is known to be wrong before anything is asked; run does the work. RunE puts the
// steps in order. NamespacedE also finds the namespace, and LiveE hands run a
// client of the live API.
//
//	func New(f *plugin.Factory) *cobra.Command {
//		o := &options{Factory: f}
//		return &cobra.Command{Use: "drain POOL", RunE: f.LiveE(o.complete, o.validate, o.run)}
//	}
//
// Trade-off: a command can reach everything that the Factory has, so what it needs
// does not show in its signature. In return no command asks for more than it
// uses: clients are made when they are first asked for.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
)

// Factory gives commands their streams, their cluster and the time.
type Factory struct {
	genericiooptions.IOStreams

	// Name that usages print: "kubectl connpool" or "connpool".
	Name    string
	Version string
	// Now is the time from which ages are counted.
	Now     func() time.Time
	Cluster *cluster.Cluster
	// Output is the -o flag of the command that runs.
	Output Output
	// Namespace that the command is about, once NamespacedE has found it; "" for all.
	Namespace string
	// AllNamespaces is the -A flag of the command that runs.
	AllNamespaces bool
}

// New returns the factory of a process.
func New(name, version string, streams genericiooptions.IOStreams) *Factory {
	return &Factory{IOStreams: streams, Name: name, Version: version, Now: time.Now, Cluster: cluster.New(name, version, streams.ErrOut)}
}

// NewRoot returns the command above all others, still without those below it.
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
	root.SetUsageFunc(printUsage)
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.SetFlagErrorFunc(inFlagWords)
	OnlyCommands(root)
	f.registerVersion(root)
	f.Cluster.Register(root.PersistentFlags())
	root.PersistentFlags().IntVarP(&f.Cluster.Verbosity, "v", "v", 0,
		"Log requests to standard error: 6 for their URLs and times, 8 for their headers, too")
	root.PersistentFlags().Var(&f.Cluster.Direct, "direct", cluster.DirectUsage)
	CompleteFlag(root, "direct", cobra.FixedCompletions(cluster.DirectModes, cobra.ShellCompDirectiveNoFileComp))
	CompleteFlag(root, "namespace", Names(f.listNamespaces))
	CompleteFlag(root, "context", Names(func(context.Context, []string) ([]string, error) { return f.Cluster.Contexts() }))
	return root
}

// OnlyCommands makes a command that only has commands below it print its help, and fail
// if it is called with another word.
func OnlyCommands(command *cobra.Command) {
	command.Args = func(command *cobra.Command, args []string) error {
		if len(args) > 0 {
			return UnknownCommand(command, args[0])
		}
		return nil
	}
	command.RunE = func(command *cobra.Command, _ []string) error { return command.Help() }
}

// UnknownCommand returns the error for a word that is not a command below another one.
func UnknownCommand(command *cobra.Command, word string) error {
	err := fmt.Errorf("%s has no command %q", command.CommandPath(), word)
	if near := suggestions(command, word); len(near) > 0 {
		return exit.Hint(err, "Did you mean %s?", strings.Join(near, " or "))
	}
	return exit.Hint(err, "See its commands: %s --help", command.CommandPath())
}

// suggestions returns the command that other programs call by this word, or else those
// with a similar name. A short word is similar to too many.
func suggestions(command *cobra.Command, word string) []string {
	for _, below := range command.Commands() {
		if slices.Contains(below.SuggestFor, word) {
			return []string{below.Name()}
		}
	}
	command.SuggestionsMinimumDistance = min(2, max(1, len(word)/2))
	return command.SuggestionsFor(word)
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
	return exit.Report(f.ErrOut, exit.WithSignal(ctx, err, failed), failed)
}

// RunFunc is a function that cobra runs.
type RunFunc = func(command *cobra.Command, args []string) error

// RunE puts the steps of a command in order. complete and validate may be nil.
func (f *Factory) RunE(complete RunFunc, validate func() error, run func(context.Context) error) RunFunc {
	return func(command *cobra.Command, args []string) error {
		if complete != nil {
			if err := complete(command, args); err != nil {
				return err
			}
		}
		if validate != nil {
			if err := validate(); err != nil {
				return err
			}
		}
		if err := f.Output.validate(command); err != nil {
			return err
		}
		return run(command.Context())
	}
}

// NamespacedE is RunE for a command that is about a namespace, or about all of them.
func (f *Factory) NamespacedE(complete RunFunc, validate func() error, run func(context.Context) error) RunFunc {
	return f.RunE(func(command *cobra.Command, args []string) (err error) {
		if f.AllNamespaces && len(args) > 0 {
			return errors.New("a name and --all-namespaces cannot be used together: a name is looked up in one namespace")
		}
		if complete != nil {
			if err := complete(command, args); err != nil {
				return err
			}
		}
		if !f.AllNamespaces {
			f.Namespace, err = f.Cluster.Namespace()
		}
		return err
	}, validate, run)
}

// LiveE is NamespacedE for a command that asks the live API.
func (f *Factory) LiveE(
	complete RunFunc, validate func() error, run func(context.Context, *client.Client) error,
) RunFunc {
	return f.NamespacedE(complete, validate, func(ctx context.Context) error {
		live, err := f.Cluster.Live(ctx)
		if err != nil {
			return err
		}
		return run(ctx, live)
	})
}

// RegisterAllNamespaces adds -A.
func RegisterAllNamespaces(f *Factory, command *cobra.Command) {
	command.Flags().BoolVarP(&f.AllNamespaces, "all-namespaces", "A", false, "In all namespaces")
}

// First returns the first argument, or "".
func First(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return cluster.PoolName(args[0])
}

// Examples formats pairs of what an example does and what to type.
func (f *Factory) Examples(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString("  # " + pairs[i] + "\n  " + f.Name + " " + pairs[i+1])
	}
	return b.String()
}
