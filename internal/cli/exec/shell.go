package exec

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/cli/terminal"
)

// shellOptions open a shell: exec without a command.
type shellOptions struct{ exec options }

// NewShell returns the command shell.
func NewShell(f *plugin.Factory) *cobra.Command {
	o := &shellOptions{exec: options{Factory: f, stdin: true}}
	command := &cobra.Command{
		Use:   "shell POOL[/TARGET]",
		Short: "Open a shell on a target",
		Long: "Open a shell on a target: the login shell of a host, or sh in a container or pod.\n" +
			"It is the same as exec -it without a command.",
		Example: f.Examples(
			"on a host", "shell web/web-1",
			"in a container of a Docker engine", "shell ci --container web",
			"in a pod", "shell cluster --pod web-0"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.CompletePoolSlashTarget,
		Annotations:       map[string]string{plugin.OwnFailures: "true"},
		RunE:              plugin.RunE(o.complete, o.validate, o.exec.run),
	}
	flags, shell := command.Flags(), &o.exec.command
	shell.TTY = true
	shell.Place.Register(flags)
	shell.RegisterTarget(f, command)
	flags.StringArrayVar(&shell.Env, "env", nil, remote.EnvUsage)
	return command
}

func (o *shellOptions) complete(_ *cobra.Command, args []string) (err error) {
	if err := o.exec.command.ReadPool(args[0]); err != nil {
		return err
	}
	o.exec.namespace, err = o.exec.Cluster.Namespace()
	return err
}

func (o *shellOptions) validate() error {
	if !terminal.Is(o.exec.In) {
		return exit.Hint(errors.New("a shell needs a terminal, and standard input is none"),
			"To run what standard input holds: %s exec %s -i -- sh", o.exec.Name, o.exec.command.Pool)
	}
	return o.exec.validate()
}
