// Package hostkeys is the command hostkeys: it scans the keys of an SSH host, and prints a
// ConnectionTarget that pins them.
//
// The scan starts at the user's machine and does not pass the operator. The target goes to
// standard output, and what the user must compare to standard error.
//
// Trade-off: a scan alone proves nothing, as with ssh-keyscan, so the output says
// how to verify it before it is committed.
package hostkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

type options struct {
	*plugin.Factory

	target  sshhost.Target
	login   string
	timeout time.Duration
}

// New returns the command hostkeys.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "hostkeys [USER@]HOST[:PORT]",
		Short: "Scan the keys of a host and print what to pin",
		Long: "Ask a host for its keys, from this machine, and print a ConnectionTarget that pins them.\n\n" +
			"A scan alone proves nothing: an attacker between you and the host could answer in its place. Compare the\n" +
			"fingerprints with what the host itself says before you commit. Nothing logs in, and no credential is\n" +
			"sent.\n\n" +
			"What you should review goes to standard error, and the target to standard output.",
		Example: f.Examples(
			"look, compare, then keep", "hostkeys deploy@web-1.example.com > web-1.yaml",
			"another port and name", "hostkeys 10.0.0.5:2222 --name jump --login ops",
			"for a program", "hostkeys web-1.example.com -o json"),
		Args: plugin.Args(1, 1),
		RunE: f.RunE(o.complete, o.validate, o.run),
	}
	flags := command.Flags()
	flags.StringVar(&o.target.Name, "name", "", "Name of the target; by default, made from HOST")
	flags.StringVar(&o.login, "login", "", "User to log in as; the same as USER@; by default, your own")
	flags.StringVar(&o.target.Secret, "credentials", "", "Name of the Secret to log in with; by default, NAME-ssh")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "How long the host may take to answer")
	f.Output.Register(command, plugin.YAML, plugin.JSON)
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	address, err := sshhost.ParseAddress(args[0])
	if err != nil {
		return err
	}
	address.User = cmp.Or(o.login, address.User, sshhost.OurName())
	o.target.Address = address
	o.target.Name = cmp.Or(o.target.Name, sshhost.NameOf(address.Host))
	o.target.Secret = cmp.Or(o.target.Secret, o.target.Name+"-ssh")
	o.target.Namespace = o.Cluster.NamespaceFlag()
	return nil
}

func (o *options) validate() error {
	switch {
	case !cluster.IsName(o.target.Name):
		return fmt.Errorf("%q is not a valid name of a Kubernetes object: choose one with --name", o.target.Name)
	case !cluster.IsName(o.target.Secret):
		return fmt.Errorf("--credentials %q is not a valid name of a Kubernetes object", o.target.Secret)
	case o.target.User == "":
		return errors.New("your user name is unknown here: say who logs in, as USER@HOST")
	case o.timeout <= 0:
		return fmt.Errorf("--timeout %s is not positive", o.timeout)
	}
	return nil
}

func (o *options) run(ctx context.Context) error {
	scan, err := sshhost.ScanHost(ctx, sshhost.FromHere, o.target.Address.String(), o.timeout)
	if err != nil {
		return err
	}
	pins := scan.Pins()
	if !o.Output.IsMachine() {
		o.describe(&scan)
	}
	if len(pins) == 0 {
		return sshhost.ErrWeak
	}
	o.target.HostKeys = v1alpha1.HostKeys{KnownHosts: pins}
	o.Output.Form = cmp.Or(o.Output.Form, plugin.YAML)
	return o.Output.Encode(o.Out, o.target.Object())
}

// describe prints what was found, and how to verify it.
func (o *options) describe(scan *sshhost.Scan) {
	fmt.Fprintf(o.ErrOut, "%s\n\n", scan.Title(o.target.Host))
	scan.Table().Write(o.ErrOut)
	fmt.Fprintf(o.ErrOut, "\nThis proves nothing yet: an attacker between you and the host could have answered.\n"+
		"Compare with what the host itself says, on its console or by another way that you trust:\n\n"+
		"  %s\n\n"+
		"Then commit this target, and make the Secret %s for it. Or let `%s target add` do all of it.\n\n",
		scan.HowToCompare(), o.target.Secret, o.Name)
}
