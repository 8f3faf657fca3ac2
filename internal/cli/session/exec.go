package session

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
)

// execOptions run one command in a session.
type execOptions struct {
	*plugin.Factory
	command remote.Command // without a place, which the session has
	session string
	quiet   bool
}

// newExec returns the command session exec.
func newExec(f *plugin.Factory) *cobra.Command {
	o := &execOptions{Factory: f}
	command := &cobra.Command{
		Use:   "exec SESSION -- COMMAND [ARGUMENT...]",
		Short: "Run a command in a session",
		Long: "Run a command in the shell of a session, after those that are there already. Its\n" +
			"arguments arrive as given, unless --shell asks the shell to interpret them; builtins\n" +
			"such as cd and export work in both ways. Its input is empty. Ctrl-C ends the session\n" +
			"together with the command.\n\n" +
			"The exit code is the command's, or 254 if it surely did not run, or 255 if it may\n" +
			"have run; both come with a message.",
		Example: f.Examples(
			"change the directory for what follows", "session exec NAME -- cd /srv/app",
			"a line for the shell", "session exec NAME --shell -- 'export STAGE=prod; make deploy'"),
		ValidArgsFunction:     plugin.Once(f.LiveNames(cluster.SessionNames)),
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{plugin.OwnFailures: "true"},
		RunE:                  f.LiveE(o.complete, o.validate, o.run),
	}
	flags := command.Flags()
	flags.BoolVar(&o.command.Shell, "shell", false, "Let the shell interpret the command")
	flags.DurationVar(&o.command.Timeout, "timeout", 0, "End the command, and the session, after this long, such as 30s; 0 means never")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Say nothing but what the command says")
	return command
}

func (o *execOptions) complete(command *cobra.Command, args []string) error {
	name, err := o.command.ReadAfter(command, args, "session")
	if err != nil {
		return exit.Hint(err, "For example: %s session exec NAME -- cd /tmp", o.Name)
	}
	o.session = nameOf(name)
	return nil
}

func (o *execOptions) validate() error {
	if o.command.IsEmpty() {
		return errors.New("there is no command: write it after --")
	}
	return o.command.ValidateWords()
}

func (o *execOptions) run(ctx context.Context, live *client.Client) error {
	command := o.command.ForClient()
	result, err := live.Session(o.Namespace, o.session).Stream(ctx, command, client.Streams{Stdout: o.Out, Stderr: o.ErrOut})
	ending := remote.Ending{
		Quiet: o.quiet, Asked: cluster.AskedToUseSession(o.Namespace, o.session),
		Interrupted: "the session ends together with the command, which may have done part of its work",
	}
	return ending.Error(ctx, o.Cluster, result, err)
}
