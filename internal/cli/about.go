package cli

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

func newHelp(f *plugin.Factory) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Explain a command",
		Example: f.Examples("exec", "help exec", "a command of session", "help session create"),
		RunE: func(command *cobra.Command, args []string) error {
			about := command.Root()
			for _, word := range args {
				below := named(about, word)
				if below == nil {
					return plugin.UnknownCommand(about, word)
				}
				about = below
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			about := command.Root()
			for _, word := range args {
				if about = named(about, word); about == nil {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
			}
			var names []string
			for _, below := range about.Commands() {
				if below.IsAvailableCommand() && strings.HasPrefix(below.Name(), typed) {
					names = append(names, below.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// named returns the command of a name below another one, or nil.
func named(above *cobra.Command, name string) *cobra.Command {
	for _, below := range above.Commands() {
		if below.Name() == name || below.HasAlias(name) {
			return below
		}
	}
	return nil
}

type versionOptions struct {
	*plugin.Factory
	client bool
}

type versions struct {
	Client   string `json:"client"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Server is the operator's version, unless it was not asked or did not answer.
	Server string `json:"server,omitempty"`
	Error  string `json:"error,omitempty"`
}

func newVersion(f *plugin.Factory) *cobra.Command {
	o := &versionOptions{Factory: f}
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and of the operator",
		Example: f.Examples(
			"both", "version",
			"only this program's, without asking the cluster", "version --client"),
		Args: plugin.Args(0, 0),
		RunE: f.RunE(nil, nil, o.run),
	}
	command.Flags().BoolVar(&o.client, "client", false, "Only the version of this program, without asking the cluster")
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	return command
}

func (o *versionOptions) run(ctx context.Context) error {
	v := versions{Client: o.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if !o.client {
		v.Server, v.Error = o.ask(ctx)
	}
	if o.Output.IsMachine() {
		return o.Output.Encode(o.Out, v)
	}
	fmt.Fprintf(o.Out, "Client: %s (%s, %s)\n", v.Client, v.Go, v.Platform)
	switch {
	case v.Server != "":
		fmt.Fprintf(o.Out, "Server: %s\n", display.OneLine(v.Server))
	case v.Error != "":
		fmt.Fprintf(o.ErrOut, "Server: %s\n", display.OneLine(v.Error))
	}
	return nil
}

func (o *versionOptions) ask(ctx context.Context) (version, why string) {
	plain, err := o.Cluster.Plain()
	if err != nil {
		return "", "not asked: " + err.Error()
	}
	version, err = plain.OperatorVersion(ctx)
	if err != nil {
		return "", "does not answer: " + err.Error()
	}
	return version, ""
}

func newCompletion(f *plugin.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands and names in your shell",
		Long: "Print a script that completes commands, pools, targets and namespaces.\n\n" +
			"The script is for the name connpool. For `kubectl connpool`, put an executable called\n" +
			"kubectl_complete-connpool into your PATH, with this content:\n\n" +
			"  #!/bin/sh\n  exec kubectl connpool __complete \"$@\"",
		Example: "  # in ~/.bashrc\n  source <(" + f.Name + " completion bash)\n\n" +
			"  # in ~/.zshrc\n  source <(" + f.Name + " completion zsh)",
		Args:                  cobra.MatchAll(plugin.Args(1, 1), cobra.OnlyValidArgs),
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		DisableFlagsInUseLine: true,
		RunE: func(command *cobra.Command, args []string) error {
			return printScript(f, command.Root(), args[0])
		},
	}
}

func printScript(f *plugin.Factory, root *cobra.Command, shell string) error {
	// The script calls a single word, which is the binary's other name.
	root.Use = "connpool"
	root.Annotations = nil
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(f.Out, true)
	case "zsh":
		return root.GenZshCompletion(f.Out)
	case "fish":
		return root.GenFishCompletion(f.Out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(f.Out)
	default:
		return fmt.Errorf("no completion for %q", shell)
	}
}
