// Package importer is the command import: it prints the hosts of other programs' files as
// targets and pools, for a file that is reviewed and applied.
//
// The parsers are the packages below. What they found gets valid names and host keys here,
// and becomes objects (objects.go). It asks no cluster.
//
// Trade-off: it prints no Secret. A private key does not belong in Git, so the commands
// that make the Secrets stand in the notes.
package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/importer/ansible"
	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/importer/sshconfig"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/internal/cli/terminal"
)

type options struct {
	*plugin.Factory

	parse      func(text []byte, path string, defaults hosts.Defaults) (*hosts.Inventory, error)
	path       string
	defaults   hosts.Defaults
	pool       string
	secret     string
	knownHosts []string
	scan       bool
	timeout    time.Duration
}

// New returns the command import, with a command for each kind of file.
func New(f *plugin.Factory) *cobra.Command {
	command := &cobra.Command{
		Use:   "import",
		Short: "Print the hosts of an ssh_config or Ansible inventory as targets",
		Long: "Print the hosts of an ssh_config or an Ansible inventory as targets and pools, for you to review and apply.\n\n" +
			"What cannot be carried over is listed on standard error and as comments, together with the commands that\n" +
			"create the Secrets. Host keys come from known_hosts. A host without a key there is left out, unless --scan\n" +
			"asks the host for it.",
		Example: f.Examples(
			"your own hosts", "import ssh-config ~/.ssh/config > hosts.yaml",
			"an inventory, each group a pool", "import ansible-inventory hosts.ini --scan > hosts.yaml"),
	}
	plugin.OnlyCommands(command)
	commands := &cobra.Group{ID: "commands", Title: "Commands:"}
	command.AddGroup(commands)
	for _, below := range []*cobra.Command{newSSHConfig(f), newAnsible(f)} {
		below.GroupID = commands.ID
		command.AddCommand(below)
	}
	return command
}

func newSSHConfig(f *plugin.Factory) *cobra.Command {
	readers := sshconfig.Readers{Glob: filepath.Glob, Read: os.ReadFile}
	o := &options{Factory: f, parse: func(text []byte, path string, defaults hosts.Defaults) (*hosts.Inventory, error) {
		return sshconfig.Read(text, path, readers, defaults)
	}}
	command := &cobra.Command{
		Use:   "ssh-config FILE",
		Short: "Print the hosts of an ssh_config",
		Long: "Print each host that FILE names after Host, without patterns, as a target with a pool of its own. Settings\n" +
			"under patterns apply to the hosts that match, and a jump host of ProxyJump becomes a target. FILE - is\n" +
			"standard input.",
		Example: f.Examples(
			"your own hosts", "import ssh-config ~/.ssh/config > hosts.yaml",
			"all in one pool, with one Secret", "import ssh-config ./config --pool web --secret web-ssh"),
	}
	command.Flags().StringVar(&o.pool, "pool", "", "One pool for all hosts; by default, one for each")
	return o.register(command)
}

func newAnsible(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f, parse: readAnsible}
	return o.register(&cobra.Command{
		Use:   "ansible-inventory FILE",
		Short: "Print the hosts of an Ansible inventory",
		Long: "Print each host of an inventory as a target, and each group as a pool that selects its hosts by a label. FILE\n" +
			"is INI, or YAML if its name ends in .yml or .yaml; - reads INI from standard input.",
		Example: f.Examples(
			"with the host keys of your known_hosts", "import ansible-inventory hosts.ini > hosts.yaml",
			"asking the hosts that are not in it for their keys", "import ansible-inventory inventory.yml --scan > hosts.yaml"),
	})
}

// readAnsible reads an inventory, and notes the variables that stand beside it.
func readAnsible(text []byte, path string, defaults hosts.Defaults) (*hosts.Inventory, error) {
	inventory, err := ansible.Read(text, path, defaults)
	for _, folder := range []string{"group_vars", "host_vars"} {
		beside := filepath.Join(filepath.Dir(path), folder)
		if _, absent := os.Stat(beside); absent == nil && err == nil && path != "-" {
			inventory.Notef("the variables in %s are not read: what a target needs of them is missing", beside)
		}
	}
	return inventory, err
}

func (o *options) register(command *cobra.Command) *cobra.Command {
	command.Args = plugin.Args(1, 1)
	command.RunE = o.RunE(o.complete, o.validate, o.run)
	flags := command.Flags()
	flags.StringVar(&o.defaults.User, "login", "", "User to log in as where FILE names none; by default, your own")
	flags.StringVar(&o.secret, "secret", "import-ssh", "Secret of hosts for which FILE names no private key")
	flags.StringSliceVar(&o.knownHosts, "known-hosts", nil, "Files with the host keys; by default, your own known_hosts")
	flags.BoolVar(&o.scan, "scan", false, "Ask hosts that are not in known_hosts for their keys; compare the printed fingerprints")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "How long a host may take to answer --scan")
	o.Output.Register(command, plugin.YAML, plugin.JSON)
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	o.path = sshhost.ExpandHome(args[0])
	if o.defaults.User == "" {
		o.defaults.User = sshhost.OurName()
	}
	for i, file := range o.knownHosts {
		o.knownHosts[i] = sshhost.ExpandHome(file)
	}
	return nil
}

func (o *options) validate() error {
	switch {
	case !cluster.IsName(o.secret):
		return fmt.Errorf("--secret %q is not a valid name of a Secret", o.secret)
	case o.pool != "" && !isLabelName(o.pool):
		return fmt.Errorf("--pool %q is not a valid name of a pool: use lower case letters, digits and hyphens, at most %d characters",
			o.pool, maxLabelName)
	case o.timeout <= 0:
		return fmt.Errorf("--timeout %s is not positive", o.timeout)
	}
	return nil
}

func (o *options) run(ctx context.Context) error {
	text, err := o.read()
	if err != nil {
		return err
	}
	inventory, err := o.parse(text, o.path, o.defaults)
	if err != nil {
		return err
	}
	if o.pool != "" {
		for _, host := range inventory.Hosts {
			host.Groups = []string{o.pool}
		}
	}
	known, err := sshhost.ReadKnownHosts(o.knownHosts...)
	if err != nil {
		return err
	}
	known.AddExisting(inventory.KnownHosts...)
	keys := o.findKeys(ctx, inventory.Hosts, known)
	b := newBuilder(inventory, keys, o.secret, o.Cluster.NamespaceFlag())
	objects := b.build()
	if !o.Output.IsMachine() || o.Output.Form == plugin.YAML {
		o.comment(inventory.Notes)
	}
	if !terminal.Is(o.Out) || o.Output.Form == plugin.JSON {
		for _, note := range inventory.Notes {
			exit.PrintNote(o.ErrOut, note)
		}
	}
	if len(objects) == 0 {
		return errors.New("no host of this file can be carried over; the notes say why")
	}
	return sshhost.Write(o.Out, o.Output, objects)
}

// read reads the file, or standard input.
func (o *options) read() ([]byte, error) {
	from := o.In
	if o.path != "-" {
		file, err := os.Open(o.path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it was only read
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, hosts.MaxFile+1))
	if len(text) > hosts.MaxFile {
		return nil, fmt.Errorf("%s has more than %d MiB: split it", o.path, hosts.MaxFile>>20)
	}
	return text, err
}
