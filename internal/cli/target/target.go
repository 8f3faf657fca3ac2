// Package target is the command target: it makes a host that the user can reach with ssh
// into a target, in one step.
//
// The steps of `target add` are a file each: the private key (identity.go), the host key
// (hostkey.go), the objects and how they differ from those that exist (plan.go), and the
// wait for the operator (wait.go). Everything is read and tried as a dry run before the
// user is asked, and nothing is stored before the user has agreed.
//
// Trade-off: it knows ssh targets only. The Secrets of Docker engines and clusters have
// other keys, and there is no host key to compare.
package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// New returns the command target, with the command add below it.
func New(f *plugin.Factory) *cobra.Command {
	command := &cobra.Command{
		Use:     "target",
		Short:   "Add a host of your own",
		Long:    "Turn a host that you can reach with ssh into a target, with its Secret and a pool.",
		Example: f.Examples("a host, from its address to the first command", "target add deploy@web-1.example.com"),
	}
	plugin.OnlyCommands(command)
	commands := &cobra.Group{ID: "commands", Title: "Commands:"}
	command.AddGroup(commands)
	add := newAdd(f)
	add.GroupID = commands.ID
	command.AddCommand(add)
	return command
}

type addOptions struct {
	*plugin.Factory

	target      sshhost.Target
	login       string
	pool        string
	identity    string
	secret      string
	knownHosts  string
	fingerprint string
	dryRun      string
	yes         bool
	replace     bool
	timeout     time.Duration
	scanTimeout time.Duration
	// settle is how long a failure must last to be told: the first may be of the moment
	// before the operator has seen all objects.
	settle time.Duration
}

// Values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

func newAdd(f *plugin.Factory) *cobra.Command {
	o := &addOptions{Factory: f, settle: 3 * time.Second, scanTimeout: 5 * time.Second}
	command := &cobra.Command{
		Use:   "add [USER@]HOST[:PORT]",
		Short: "Turn a host into a target, and wait until commands run there",
		Long: "Turn a host that you can reach with ssh into a target: verify its key, store a private key in a Secret, create\n" +
			"a ConnectionTarget and a ConnectionPool, and wait until a connection is warm. Running it again changes\n" +
			"nothing.\n\n" +
			"The host key is the one in your known_hosts or, if the host is not there, the one that it shows now: compare\n" +
			"the fingerprint before you say yes. A host that shows another key than the known one is refused.\n\n" +
			"Without --identity and --secret it offers to use your own key, as ssh would, and asks first: everyone who may\n" +
			"read Secrets in the namespace can copy it. A key made for this purpose is better: ssh-keygen -t ed25519 -f\n" +
			"FILE.\n\n" +
			"With -o, the target and the pool are also printed, but never the Secret: a private key does not belong in Git.",
		Example: f.Examples(
			"a host, with your own key", "target add deploy@web-1.example.com",
			"with a key made for it, into a pool of several", "target add deploy@web-1:2222 --identity connpool-key --pool web",
			"behind a jump host that is a target already", "target add deploy@db-1.internal --jump bastion",
			"in a script, knowing the fingerprint", "target add deploy@web-1 --identity KEY --host-key-fingerprint SHA256:...",
			"for GitOps", "target add deploy@web-1.example.com --dry-run -o yaml > web-1.yaml"),
		Args: plugin.Args(1, 1),
		RunE: f.NamespacedE(o.complete, o.validate, o.run),
	}
	o.register(command)
	return command
}

func (o *addOptions) register(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&o.identity, "identity", "", "File of the private key to log in with; it is stored in a Secret")
	flags.StringVar(&o.secret, "secret", "", "Existing Secret to log in with, instead of --identity")
	flags.StringVar(&o.target.Jump, "jump", "", "Target to use as jump host")
	flags.StringVar(&o.pool, "pool", "", "Pool that the target joins, created if it does not exist; by default, one of its own")
	flags.StringVar(&o.target.Name, "name", "", "Name of the target; by default, made from HOST")
	flags.StringVar(&o.login, "login", "", "User to log in as; the same as USER@; by default, your own")
	flags.StringToStringVar(&o.target.Labels, "labels", nil, "Labels for the target, such as app=web")
	flags.StringVar(&o.knownHosts, "known-hosts", "", "File with the host key; by default, your own known_hosts")
	flags.StringVar(&o.fingerprint, "host-key-fingerprint", "", "Fingerprint of the host key (SHA256:...); then you are not asked about it")
	flags.BoolVarP(&o.yes, "yes", "y", false, "Trust the key that the host shows now, without asking")
	flags.BoolVar(&o.replace, "replace", false, "Change existing objects that differ")
	flags.StringVar(&o.dryRun, "dry-run", dryRunNone,
		"none, client (ask only the host) or server (also ask the cluster, but store nothing)")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "How long to wait until the target is ready; 0 means not to wait")
	o.Output.Register(command, plugin.YAML, plugin.JSON)
	command.MarkFlagsMutuallyExclusive("identity", "secret")
	plugin.CompleteFlag(command, "jump", o.CompleteTarget)
	plugin.CompleteFlag(command, "pool", o.CompletePool)
	plugin.CompleteFlag(command, "dry-run",
		cobra.FixedCompletions([]string{dryRunNone, dryRunClient, dryRunServer}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *addOptions) complete(_ *cobra.Command, args []string) error {
	address, err := sshhost.ParseAddress(args[0])
	if err != nil {
		return err
	}
	address.User = cmp.Or(o.login, address.User, sshhost.OurName())
	o.target.Address = address
	o.target.Name = cmp.Or(o.target.Name, sshhost.NameOf(address.Host))
	o.target.Jump = cluster.TargetName(o.target.Jump)
	o.pool = cluster.PoolName(o.pool)
	o.target.Secret = cmp.Or(o.secret, o.target.Name+"-ssh")
	o.identity = sshhost.ExpandHome(o.identity)
	o.knownHosts = sshhost.ExpandHome(o.knownHosts)
	return nil
}

func (o *addOptions) validate() error {
	switch {
	case !cluster.IsName(o.target.Name):
		return fmt.Errorf("%q is not a valid name of a Kubernetes object: choose one with --name", o.target.Name)
	case !cluster.IsName(o.target.Secret):
		return fmt.Errorf("%q is not a valid name of a Secret", o.target.Secret)
	case o.pool != "" && !cluster.IsName(o.pool):
		return fmt.Errorf("--pool %q is not a valid name of a Kubernetes object", o.pool)
	case o.target.Jump != "" && !cluster.IsName(o.target.Jump):
		return fmt.Errorf("--jump %q is not a valid name of a target: add the jump host first, then name its target", o.target.Jump)
	case o.target.User == "":
		return errors.New("your user name is unknown here: say who logs in, as USER@HOST")
	case o.fingerprint != "" && !strings.HasPrefix(o.fingerprint, "SHA256:"):
		return errors.New("--host-key-fingerprint is SHA256:..., as ssh-keygen -l prints it")
	case o.timeout < 0:
		return fmt.Errorf("--timeout %s is negative", o.timeout)
	case o.dryRun != dryRunNone && o.dryRun != dryRunClient && o.dryRun != dryRunServer:
		return fmt.Errorf("--dry-run %q is not valid: use one of none, client, server", o.dryRun)
	}
	return nil
}

func (o *addOptions) run(ctx context.Context) error {
	key, err := o.readIdentity(ctx)
	if err != nil {
		return err
	}
	if o.dryRun == dryRunClient {
		return o.printOnly(ctx, key)
	}
	plain, err := o.Cluster.Plain()
	if err != nil {
		return err
	}
	p := &plan{addOptions: o, plain: plain, key: key}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	if o.dryRun == dryRunServer {
		return p.report(ctx, " (server dry run)", nil)
	}
	if err := p.ask(ctx); err != nil {
		return err
	}
	if err := p.report(ctx, "", p.apply); err != nil {
		return err
	}
	return p.wait(ctx)
}

// printOnly prints the objects for a file. It asks the host, and no cluster.
func (o *addOptions) printOnly(ctx context.Context, key *identity) error {
	host, err := o.findHostKeys(ctx, nil, sshhost.FromHere)
	if err != nil {
		return err
	}
	o.target.Namespace, o.target.HostKeys = o.Cluster.NamespaceFlag(), host.keys
	if key != nil {
		fmt.Fprintf(o.ErrOut, "The Secret is not printed, because a private key does not belong in Git. Make it by hand:\n\n%s\n\n",
			key.howToMake(o.target.Secret, o.target.Namespace, o.target.Host))
	}
	pool := o.newPool(o.target.Namespace)
	return sshhost.Write(o.Out, o.Output, []runtime.Object{o.target.Object(), pool})
}
