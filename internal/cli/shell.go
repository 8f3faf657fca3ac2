package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// shellOptions open a shell: exec without a command.
type shellOptions struct{ execOptions }

// newShellCommand opens a shell.
func newShellCommand(f *factory) *cobra.Command {
	o := &shellOptions{execOptions{factory: f}}
	command := &cobra.Command{
		Use:   "shell POOL[/TARGET]",
		Short: "Open a shell on a target",
		Long: "Open a shell on a target: the login shell of a host, or sh in a container or pod.\n" +
			"It is the same as exec -it without a command.",
		Example: f.examples(
			"on a host", "shell web/web-1",
			"in a container of a Docker engine", "shell ci --container web",
			"in a pod", "shell cluster --pod web-0"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completePoolSlashTarget,
		Annotations:       map[string]string{failureCode: "true"},
		RunE:              runs(o),
	}
	flags := command.Flags()
	o.command.place.register(flags)
	flags.StringVar(&o.command.target, "target", "", "Target of the pool; the same as POOL/TARGET")
	flags.StringArrayVar(&o.command.env, "env", nil, envUsage)
	completeFlag(command, "target", namesOf(f.listTargets))
	return command
}

func (o *shellOptions) complete(_ *cobra.Command, args []string) (err error) {
	o.stdin, o.command.tty = true, true
	if err := o.command.readPool(args[0]); err != nil {
		return err
	}
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *shellOptions) validate() error {
	if !isTerminal(o.In) {
		return hinted(errors.New("a shell needs a terminal, and standard input is none"),
			"To run what standard input holds: %s exec %s -i -- sh", o.name, o.command.pool)
	}
	return o.execOptions.validate()
}
