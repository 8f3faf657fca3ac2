package cli

import (
	"github.com/spf13/cobra"
)

// The groups of the commands in the help of the root.
const (
	groupUse     = "use"
	groupWatch   = "watch"
	groupOperate = "operate"
	groupAbout   = "about"
)

// newRootCommand is the tree of all commands.
func newRootCommand(f *factory) *cobra.Command {
	root := &cobra.Command{
		Use:   f.name,
		Short: "Use and watch pools of warm connections",
		Long: "Use and watch pools of warm connections to SSH hosts, Docker engines and clusters.\n\n" +
			"Who may do what is decided by Kubernetes RBAC. Start with: " + f.name + " doctor",
		SilenceErrors: true,
		SilenceUsage:  true,
		// The script is for both names of the program, which cobra's own is not.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		// A name of two words, such as "kubectl connpool", is one command here.
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: f.name},
	}
	root.SetIn(f.In)
	root.SetOut(f.Out)
	root.SetErr(f.ErrOut)
	setHelp(root)
	f.config.register(root.PersistentFlags())
	completeFlag(root, "namespace", namesOf(f.listNamespaces))
	completeFlag(root, "context", namesOf(f.listContexts))
	addCommands(root, f)
	return root
}

func addCommands(root *cobra.Command, f *factory) {
	root.AddGroup(
		&cobra.Group{ID: groupUse, Title: "Use a pool:"},
		&cobra.Group{ID: groupWatch, Title: "See how it is:"},
		&cobra.Group{ID: groupOperate, Title: "Operate it:"},
		&cobra.Group{ID: groupAbout, Title: "About this program:"},
	)
	addTo(root, groupUse, newExecCommand(f), newRunCommand(f), newShellCommand(f), newSessionCommand(f), newCopyCommand(f),
		newPortForwardCommand(f), newProxyCommand(f))
	addTo(root, groupWatch, newStatusCommand(f), newConnectionsCommand(f), newTopCommand(f))
	addTo(root, groupOperate, newCheckCommand(f), newDrainCommand(f), newHostKeysCommand(f), newDoctorCommand(f))
	addTo(root, groupAbout, newVersionCommand(f), newCompletionCommand(f))
}

func addTo(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, command := range commands {
		command.GroupID = group
		root.AddCommand(command)
	}
}
