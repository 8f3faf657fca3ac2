package cli

import (
	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/check"
	"github.com/connpool/connpool/internal/cli/connections"
	"github.com/connpool/connpool/internal/cli/cp"
	"github.com/connpool/connpool/internal/cli/doctor"
	"github.com/connpool/connpool/internal/cli/exec"
	"github.com/connpool/connpool/internal/cli/hostkeys"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/portforward"
	"github.com/connpool/connpool/internal/cli/proxy"
	"github.com/connpool/connpool/internal/cli/run"
	"github.com/connpool/connpool/internal/cli/session"
	"github.com/connpool/connpool/internal/cli/status"
	"github.com/connpool/connpool/internal/cli/top"
)

// newCommand makes a command.
type newCommand func(*plugin.Factory) *cobra.Command

// groups of commands, in the order of the help of the root.
var groups = []struct {
	id, title string
	commands  []newCommand
}{
	{"use", "Use a pool:", []newCommand{exec.New, run.New, exec.NewShell, session.New, cp.New, portforward.New, proxy.New}},
	{"watch", "See how it is:", []newCommand{status.New, connections.New, top.New}},
	{"operate", "Operate it:", []newCommand{check.New, connections.NewDrain, hostkeys.New, doctor.New}},
	{"about", "About this program:", []newCommand{newVersion, newCompletion}},
}

// newRoot returns the tree of all commands.
func newRoot(f *plugin.Factory) *cobra.Command {
	root := f.NewRoot()
	root.Short = "Use and watch pools of warm connections"
	root.Long = "Use and watch pools of warm connections to SSH hosts, Docker engines and clusters.\n\n" +
		"Who may do what is decided by Kubernetes RBAC. Start with: " + f.Name + " doctor"
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, newCommand := range group.commands {
			command := newCommand(f)
			command.GroupID = group.id
			root.AddCommand(command)
		}
	}
	return root
}
