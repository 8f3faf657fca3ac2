// Package cli is the kubectl plugin: what a user at a terminal does with pools and
// their connections.
//
// The binary works as `kubectl connpool` and, under its other name, as
// `connpool`. Each command is a package below this one, and this one puts them
// together:
//
//	cli                                         the tree of commands
//	exec, run, session, cp, portforward, proxy  use a pool
//	status, connections, top, history, web      see how it is
//	listing                                     targets, containers and pods that commands can name
//	target, importer, hostkeys, check, doctor   operate it
//	remote, sshhost, plugin, cluster, places    what commands are made with
//	output                                      lists, and the flags that they have
//	display, exit, terminal, listen             printing, ending, the terminal, sockets
//
// An import points downwards only, and commands do not import each other.
//
// Usage:
//
//	os.Exit(cli.Main(os.Args, version, streams))
//
// Trade-off: a plugin starts anew for each command, so its imports are chosen by
// what they cost at the start. Each of the lower packages says what it does
// without for that reason.
package cli

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli/check"
	"github.com/connpool/connpool/internal/cli/connections"
	"github.com/connpool/connpool/internal/cli/cp"
	"github.com/connpool/connpool/internal/cli/doctor"
	"github.com/connpool/connpool/internal/cli/exec"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/history"
	"github.com/connpool/connpool/internal/cli/hostkeys"
	"github.com/connpool/connpool/internal/cli/importer"
	"github.com/connpool/connpool/internal/cli/listing"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/portforward"
	"github.com/connpool/connpool/internal/cli/proxy"
	"github.com/connpool/connpool/internal/cli/run"
	"github.com/connpool/connpool/internal/cli/session"
	"github.com/connpool/connpool/internal/cli/status"
	"github.com/connpool/connpool/internal/cli/target"
	"github.com/connpool/connpool/internal/cli/top"
	"github.com/connpool/connpool/internal/cli/web"
)

// pluginPrefix begins the names of kubectl's plugins.
const pluginPrefix = "kubectl-"

// Main runs the command line args, whose first word is the name that the program
// was called by, and returns the exit code of the process.
func Main(args []string, version string, streams genericiooptions.IOStreams) int {
	ctx, stop := exit.UntilSignal(context.Background())
	defer stop()
	f := plugin.New(calledAs(args[0]), version, streams)
	return f.Execute(ctx, newRoot(f, calledFirst(args[1:])), args[1:])
}

// calledAs returns the name to print in usages: what the user typed.
func calledAs(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".exe")
	if rest, ok := strings.CutPrefix(name, pluginPrefix); ok {
		return "kubectl " + strings.ReplaceAll(rest, "_", "-")
	}
	return name
}

// otherWords are what users of kubectl, docker and ssh type for a command.
var otherWords = map[string][]string{
	"shell": {"ssh", "login", "attach"}, "status": {"get", "describe", "list", "ls"}, "connections": {"ps"},
	"port-forward": {"forward", "tunnel"}, "cp": {"scp", "rsync"}, "exec": {"logs"},
}

// entry is a command that can be made, by its name.
type entry struct {
	name string
	make func(*plugin.Factory) *cobra.Command
}

// groups of commands, in the order of the help of the root.
var groups = []struct {
	id, title string
	commands  []entry
}{
	{"use", "Use a pool:", []entry{
		{"exec", exec.New},
		{"run", run.New},
		{"shell", exec.NewShell},
		{"session", session.New},
		{"cp", cp.New},
		{"port-forward", portforward.New},
		{"proxy", proxy.New},
	}},
	{"watch", "Observe:", []entry{
		{"status", status.New},
		{"targets", listing.NewTargets},
		{"containers", listing.NewContainers},
		{"pods", listing.NewPods},
		{"connections", connections.New},
		{"top", top.New},
		{"history", history.New},
		{"web", web.New},
	}},
	{"operate", "Operate:", []entry{
		{"target", target.New},
		{"import", importer.New},
		{"check", check.New},
		{"drain", connections.NewDrain},
		{"hostkeys", hostkeys.New},
		{"doctor", doctor.New},
	}},
	{"about", "About this program:", []entry{{"help", newHelp}, {"version", newVersion}, {"completion", newCompletion}}},
}

// calledFirst returns the word of a command line that must be its command: before it are
// only flags with their values, as in --context=lab. If that is not sure, it returns "".
func calledFirst(args []string) string {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "--") || !strings.Contains(arg, "=") {
			return arg
		}
	}
	return ""
}

// knowsOthers are the commands that are about the others.
var knowsOthers = []string{"help", "completion"}

// isNeeded returns which commands the one of a name needs: usually only itself. To make
// them all, with their flags, takes as long as to read a kubeconfig.
func isNeeded(called string) func(name string) bool {
	for _, group := range groups {
		for _, command := range group.commands {
			if command.name == called && !slices.Contains(knowsOthers, called) {
				return func(name string) bool { return name == called }
			}
		}
	}
	return func(string) bool { return true }
}

// newRoot returns the tree of commands. If called is the name of a command, the tree has no
// other one than that needs.
func newRoot(f *plugin.Factory, called string) *cobra.Command {
	root := f.NewRoot()
	root.Short = "Use and watch pools of warm connections"
	root.Long = "Use and watch pools of warm connections to SSH hosts, Docker engines and clusters.\n\n" +
		"Kubernetes RBAC decides who may do what. Start with: " + f.Name + " doctor"
	needed := isNeeded(called)
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, entry := range group.commands {
			if !needed(entry.name) {
				continue
			}
			command := entry.make(f)
			command.SuggestFor = otherWords[command.Name()]
			command.GroupID = group.id
			root.AddCommand(command)
		}
	}
	return root
}
