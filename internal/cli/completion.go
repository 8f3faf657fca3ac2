package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/plugin"
)

// newCompletion returns the command completion.
func newCompletion(f *plugin.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the script that completes commands and names in your shell",
		Long: "Print the script that completes commands, pools, targets and namespaces.\n\n" +
			"It is for the name connpool. For `kubectl connpool`, put an executable called\n" +
			"kubectl_complete-connpool into your PATH, which holds:\n\n" +
			"  #!/bin/sh\n  exec kubectl connpool __complete \"$@\"",
		Example: "  # in ~/.bashrc\n  source <(" + f.Name + " completion bash)\n\n" +
			"  # in ~/.zshrc\n  source <(" + f.Name + " completion zsh)",
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
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
