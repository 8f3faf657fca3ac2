package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/client"
)

// sessionExecOptions run one command in a session.
type sessionExecOptions struct {
	*factory
	command   remoteCommand // without a place, which the session has
	namespace string
	session   string
	shell     bool
	timeout   time.Duration
	quiet     bool
}

// newSessionExecCommand runs one command in a session.
func newSessionExecCommand(f *factory) *cobra.Command {
	o := &sessionExecOptions{factory: f}
	command := &cobra.Command{
		Use:   "exec SESSION -- COMMAND [ARGUMENT...]",
		Short: "Run a command in a session",
		Long: "Run a command in the shell of a session, after those that are there already. Its\n" +
			"arguments arrive as given, unless --shell asks the shell to interpret them; builtins\n" +
			"such as cd and export work in both ways. Its input is empty. Ctrl-C ends the session\n" +
			"together with the command.\n\n" +
			"The exit code is the command's, or 254 if it surely did not run, or 255 if it may\n" +
			"have run; both come with a message.",
		Example: f.examples(
			"change the directory for what follows", "session exec NAME -- cd /srv/app",
			"a line for the shell", "session exec NAME --shell -- 'export STAGE=prod; make deploy'"),
		ValidArgsFunction:     f.completeSession,
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{failureCode: "true"},
		RunE:                  runs(o),
	}
	flags := command.Flags()
	flags.BoolVar(&o.shell, "shell", false, "Let the shell interpret the command")
	flags.DurationVar(&o.timeout, "timeout", 0, "End the command, and the session, after this long, such as 30s; 0 means never")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Say nothing but what the command says")
	return command
}

func (o *sessionExecOptions) complete(command *cobra.Command, args []string) error {
	name, words, err := splitAtDash(command, args, "session")
	if err != nil {
		return hinted(err, "For example: %s session exec NAME -- cd /tmp", o.name)
	}
	o.session, o.command.words = strings.TrimPrefix(name, sessionPrefix), words
	if o.shell {
		o.command.line, o.command.words = strings.Join(words, " "), nil
	}
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *sessionExecOptions) validate() error {
	switch {
	case o.timeout < 0:
		return fmt.Errorf("--timeout %s is negative", o.timeout)
	case o.command.empty():
		return errors.New("there is no command: write it after --")
	}
	return o.command.validateWords()
}

func (o *sessionExecOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	command := o.command.forClient()
	command.Timeout = o.timeout
	result, err := live.Session(o.namespace, o.session).Stream(ctx, command, client.Streams{Stdout: o.Out, Stderr: o.ErrOut})
	end := ending{
		quiet: o.quiet, what: askedToUseSession(o.namespace, o.session),
		interrupted: "the session ends together with the command, which may have done part of its work",
	}
	return o.endOf(ctx, end, result, err)
}
