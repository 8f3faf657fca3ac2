package plugin

import (
	"strings"

	"github.com/spf13/cobra"
)

// Examples formats the examples of a command: pairs of what an example does and
// what to type.
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

// usageTemplate is cobra's own without the flags that say which cluster. They are
// the same in every command, so only the help of the root lists them.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$commands := .Commands}}{{range $group := .Groups}}

{{.Title}}{{range $commands}}{{if (and (eq .GroupID $group.ID) .IsAvailableCommand)}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasParent}}

The flags of kubectl that say which cluster, namespace and user work here too: {{.Root.CommandPath}} --help{{else}}

{{.CommandPath}} COMMAND --help says more about a command.{{end}}
`

func setHelp(root *cobra.Command) {
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
}
