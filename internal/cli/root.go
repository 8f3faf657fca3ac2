package cli

import (
	"github.com/spf13/cobra"
)

// newRootCommand is the tree of all commands.
func newRootCommand(f *factory) *cobra.Command {
	root := &cobra.Command{
		Use:   f.name,
		Short: "Use and watch pools of warm connections",
		Long: "Use and watch pools of warm connections to SSH hosts, Docker engines and clusters.\n\n" +
			"Who may do what is decided by Kubernetes RBAC. Start with `" + f.name + " doctor`.",
		SilenceErrors: true,
		SilenceUsage:  true,
		// cobra's own would not complete names from the cluster's point of view.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		// A name of two words, such as "kubectl connpool", is one command here.
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: f.name},
	}
	root.SetIn(f.In)
	root.SetOut(f.Out)
	root.SetErr(f.ErrOut)
	f.config.register(root.PersistentFlags())
	root.AddGroup(
		&cobra.Group{ID: groupUse, Title: "Use a pool:"},
		&cobra.Group{ID: groupWatch, Title: "See how it is:"},
		&cobra.Group{ID: groupOperate, Title: "Operate it:"},
	)
	addTo(root, groupUse, newCopyCommand(f), newPortForwardCommand(f))
	addTo(root, groupWatch, newTopCommand(f))
	addTo(root, groupOperate, newHostKeysCommand(f))

	return root
}

// The groups of the commands in the help of the root.
const (
	groupUse     = "use"
	groupWatch   = "watch"
	groupOperate = "operate"
)

func addTo(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, command := range commands {
		command.GroupID = group
		root.AddCommand(command)
	}
}
