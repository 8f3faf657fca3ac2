package plugin

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// printUsage prints how a command is used: what cobra prints, without the flags that say
// which cluster. They are the same in every command, so only the help of the root lists
// them.
//
// It is no template: with the templates of Go, a program has to keep all methods of all its
// types, because a template may call any of them. That makes the plugin 3 MB larger.
func printUsage(command *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:")
	if command.HasAvailableSubCommands() {
		b.WriteString("\n  " + command.CommandPath() + " COMMAND")
	} else if command.Runnable() {
		b.WriteString("\n  " + command.UseLine())
	}
	if command.HasExample() {
		b.WriteString("\n\nExamples:\n" + command.Example)
	}
	for _, group := range command.Groups() {
		writeGroup(&b, command, group)
	}
	if command.HasAvailableLocalFlags() {
		b.WriteString("\n\nFlags:\n" + strings.TrimRight(command.LocalFlags().FlagUsages(), " \n"))
	}
	if command.HasParent() {
		b.WriteString("\n\nThe flags of kubectl that say which cluster, namespace and user work here too: " +
			command.Root().CommandPath() + " --help\n")
	} else {
		b.WriteString("\n\nFor more about a command: " + command.CommandPath() + " COMMAND --help\n")
	}
	_, err := fmt.Fprint(command.OutOrStderr(), b.String())
	return err
}

// writeGroup writes the list of the commands of a group.
func writeGroup(b *strings.Builder, above *cobra.Command, group *cobra.Group) {
	b.WriteString("\n\n" + group.Title)
	for _, command := range above.Commands() {
		if command.GroupID == group.ID && command.IsAvailableCommand() {
			fmt.Fprintf(b, "\n  %-*s %s", command.NamePadding(), command.Name(), command.Short)
		}
	}
}

// registerVersion adds --version. Cobra's own flag of that name prints by a template.
func (f *Factory) registerVersion(root *cobra.Command) {
	asked := root.Flags().Bool("version", false, "Print the version of this program")
	help := root.RunE
	root.RunE = func(command *cobra.Command, args []string) error {
		if !*asked {
			return help(command, args)
		}
		_, err := fmt.Fprintln(f.Out, f.Version)
		return err
	}
}
