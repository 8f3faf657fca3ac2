package conventions

// lastRows are the last packages of the layout: those of the plugin that are about hosts and
// pages, and what is not part of a program.
var lastRows = []row{
	{
		folder: "internal/cli/sshhost", is: "an SSH host before it is a target: its address, its keys, and the objects that make it one",
		imports: []string{
			"./api/v1alpha1", "./internal/cli/display", "./internal/cli/plugin", "./internal/driver/shellquote",
			"./internal/driver/ssh/knownhosts", "./internal/driver/ssh/sshkey",
		},
		modules: append([]string{"golang.org/x/crypto/ssh/..."}, terminalModules...),
	},
	{
		folder: "internal/cli/hostkeys", is: "the command hostkeys: scans an SSH host and prints a target that pins its keys",
		imports: append([]string{"./internal/cli/sshhost"}, commands...), modules: terminalModules,
	},
	{
		folder: "internal/cli/target/change", is: "what server-side apply would change, found out before it does",
		imports: []string{"./internal/cli/cluster"}, modules: terminalModules,
	},
	{
		folder: "internal/cli/target", is: "the command target: makes a host a target, with its Secret and a pool, in one step",
		imports: append([]string{
			"./internal/cli/sshhost", "./internal/cli/target/change", "./internal/driver/ssh/knownhosts", "./internal/driver/ssh/sshkey",
		}, commands...),
		modules: append([]string{"golang.org/x/crypto/ssh/..."}, terminalModules...),
	},
	{
		folder: "internal/cli/importer/hosts", is: "what importers have in common: hosts with groups and jump hosts, and notes of what is left out",
		imports: []string{"./internal/cli/sshhost"},
	},
	{
		folder: "internal/cli/importer/sshconfig", is: "the hosts of a file of ssh_config",
		imports: []string{"./internal/cli/importer/hosts", "./internal/cli/sshhost"}, modules: []string{"github.com/kevinburke/ssh_config"},
	},
	{
		folder: "internal/cli/importer/ansible", is: "the hosts of inventories of Ansible, in INI and YAML",
		imports: []string{"./internal/cli/importer/hosts", "./internal/cli/sshhost"}, modules: []string{"sigs.k8s.io/yaml"},
	},
	{
		folder: "internal/cli/importer", is: "the command import: prints the hosts of other programs' files as targets and pools",
		imports: append([]string{"./internal/cli/importer/...", "./internal/cli/sshhost"}, commands...), modules: terminalModules,
	},
	{
		folder: "internal/cli/web/shown", is: "what the page of web shows, made of what the cluster has said: pure functions",
		imports: append([]string{"./internal/cli/display"}, apis...), modules: []string{"k8s.io/apimachinery/...", "k8s.io/utils/..."},
	},
	{
		folder: "internal/cli/web/feed", is: "asks the cluster for what the page of web shows, while a page is seen",
		imports: append([]string{"./internal/cli/web/shown"}, commands...), modules: terminalModules,
	},
	{
		folder: "internal/cli/web", is: "the command web: a page on this machine that shows pools, and the server of it",
		imports: append([]string{"./internal/cli/web/feed", "./internal/cli/web/shown"}, commands...), modules: terminalModules,
	},
	{
		folder: "internal/cli/run/lines", is: "what many targets write, line by line, each marked with its target, and the progress below",
		imports: []string{"./internal/cli/display", "./internal/cli/terminal"},
	},
	{
		folder: "internal/cli/run", is: "the command run: a command on many targets, by streams or by one request",
		imports: append([]string{"./internal/cli/run/lines"}, commands...), modules: terminalModules,
	},
	{
		folder: "internal/cli/clitest", is: "a cluster with connpool for tests of commands",
		imports: []string{"./..."}, modules: []string{"..."},
	},
	{
		folder: "internal/cli/...", is: "the other commands, each in the package of its name: exec, run, session, proxy, top and more",
		imports: commands, modules: terminalModules,
	},
	{
		folder: "test/...", is: "support for tests of the whole: a control plane, sshd, Docker, a node with pods, faults of the network",
		imports: []string{"./..."}, modules: []string{"..."},
	},
	{
		folder: "hack/...", is: "the lab, generators, benchmarks and counters",
		imports: []string{"./..."}, modules: []string{"..."},
	},
}
