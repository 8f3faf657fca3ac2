// Package exec runs one command on a target, or opens a shell there.
//
// New makes the command exec, and NewShell the command shell, which is exec -it
// without a command. Both pay for one request and no other: there is no lookup of
// the pool or its targets on the way.
//
// The exit code is the remote command's. Failures of exec itself have codes of
// their own, exit.NotStarted and exit.Unknown, which say whether it is safe to
// try again.
//
// Trade-off: the two codes can also be those of a remote command. They are chosen
// above the codes of ssh, docker and env, and come with a message.
package exec

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/cli/terminal"
)

type options struct {
	*plugin.Factory
	command remote.Command
	stdin   bool
	quiet   bool
	tty     ttyMode
}

// New returns the command exec.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "exec POOL[/TARGET] [-- COMMAND [ARGUMENT...]]",
		Short: "Run a command through a pool",
		Long: "Run a command on a target, over a connection that is already open.\n\n" +
			"The command runs on a host, in a container of a Docker engine (--container) or in a\n" +
			"pod of a cluster (--pod). Its arguments arrive as given; no shell interprets them\n" +
			"unless you say --shell. Without -i the command's input is empty. Without a command,\n" +
			"-it opens a shell. -t gives the command a terminal if there is one here, -tt even if\n" +
			"there is none. Ctrl-C is passed on to the command, which has 5 s to end; its last\n" +
			"output and its exit code still arrive. A second Ctrl-C leaves at once. Pods take no\n" +
			"signals, and SSH servers may ignore them; then a message says that it is unknown how\n" +
			"the command ends.\n\n" +
			"The exit code is the command's, or 128 plus the number of the signal that ended it.\n" +
			"Two codes are this program's own, and come with a message:\n\n" +
			"  254  the command certainly did not run: it is safe to try again\n" +
			"  255  the command may have run: find out before you try again",
		Example: f.Examples(
			"on the only target of a pool, or any that the pool chooses", "exec web -- uptime",
			"on one target", "exec web/web-1 -- systemctl restart nginx",
			"in a container", "exec ci --container web -- ps",
			"in a pod", "exec cluster --pod web-0 --pod-namespace shop -- ls /data",
			"a line for the remote shell", "exec web/web-1 --shell -- 'ls /var/log | wc -l'",
			"with input", "exec db/db-1 -i -- psql < dump.sql"),
		ValidArgsFunction:     f.CompletePoolSlashTarget,
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{plugin.OwnFailures: "true"},
		RunE:                  f.LiveE(o.complete, o.validate, o.run),
	}
	flags := command.Flags()
	o.command.Place.Register(flags)
	o.command.RegisterTarget(f, command)
	f.CompletePlaces(command)
	flags.BoolVarP(&o.stdin, "stdin", "i", false, "Pass input on to the command")
	flags.VarPF(&o.tty, "tty", "t",
		"Give the command a terminal if there is one here; twice (-tt), or --tty=always, even if there is none").NoOptDefVal = "true"
	flags.BoolVar(&o.command.Shell, "shell", false, "Let the remote user's shell interpret the command")
	flags.StringArrayVar(&o.command.Env, "env", nil, remote.EnvUsage)
	flags.DurationVar(&o.command.Timeout, "timeout", 0, "End the command after this time, such as 30s; 0 means never")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Print only what the command prints")
	return command
}

// NewShell returns the command shell.
func NewShell(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f, stdin: true}
	command := &cobra.Command{
		Use:   "shell POOL[/TARGET]",
		Short: "Open a shell on a target",
		Long: "Open a shell on a target: the login shell of a host, or sh in a container or pod.\n" +
			"It is the same as exec -it without a command.",
		Example: f.Examples(
			"on a host", "shell web/web-1",
			"in a container of a Docker engine", "shell ci --container web",
			"in a pod", "shell cluster --pod web-0"),
		Args:              plugin.Args(1, 1),
		ValidArgsFunction: f.CompletePoolSlashTarget,
		Annotations:       map[string]string{plugin.OwnFailures: "true"},
		RunE:              f.LiveE(o.command.ReadPool, o.validateShell, o.run),
	}
	flags := command.Flags()
	o.command.TTY = true
	o.command.Place.Register(flags)
	o.command.RegisterTarget(f, command)
	f.CompletePlaces(command)
	flags.StringArrayVar(&o.command.Env, "env", nil, remote.EnvUsage)
	return command
}

func (o *options) complete(command *cobra.Command, args []string) error {
	if err := o.command.Read(command, args); err != nil {
		return exit.Hint(err, "For example: %s exec web/web-1 -- uptime", o.Name)
	}
	o.command.TTY = o.tty == ttyAlways || o.tty == ttyIfHere && terminal.Is(o.In)
	if o.tty == ttyIfHere && !o.command.TTY && !o.quiet {
		exit.PrintNote(o.ErrOut, "the command gets no terminal, because standard input is not a terminal; -tt forces one")
	}
	return nil
}

func (o *options) validate() error {
	if o.command.IsEmpty() && !o.command.TTY {
		return errors.New("a command is missing: write it after --, or ask for a shell with -it")
	}
	return o.command.Validate()
}

func (o *options) validateShell() error {
	if !terminal.Is(o.In) {
		return exit.Hint(errors.New("a shell needs a terminal, and standard input is not a terminal"),
			"To run what standard input holds: %s exec %s -i -- sh", o.Name, o.command.Pool)
	}
	return o.validate()
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	err := o.stream(ctx, live.Pool(o.Namespace, o.command.Pool))
	ending := remote.Ending{
		Quiet: o.quiet, Command: &o.command, Notes: o.ErrOut,
		Asked: cluster.AskedToStream("exec", o.Namespace, o.command.Pool, o.command.Target),
	}
	return ending.Error(ctx, o.Cluster, err)
}

// stream runs the command, in a raw terminal if it has one.
func (o *options) stream(ctx context.Context, pool *client.Pool) error {
	command, streams := o.command.ForClient(), client.Streams{Stdout: o.Out, Stderr: o.ErrOut}
	if o.stdin {
		command.Stdin = o.In
	}
	if o.command.TTY {
		streams.Terminal = &client.Terminal{Term: os.Getenv("TERM"), Size: terminal.SizeOf(o.Out)}
	}
	if o.command.TTY && terminal.Is(o.In) {
		raw, err := terminal.MakeRaw(ctx, o.In)
		if err != nil {
			return &client.Error{Outcome: livev1alpha1.OutcomeNotStarted, Message: err.Error(), Err: err}
		}
		defer raw.Restore()
		streams.Terminal.Size, streams.Terminal.Resize = raw.Size, raw.Sizes
	}
	_, err := remote.Stream(ctx, pool, command, streams, o.notes())
	return err
}

// notes is where notes go while the command runs; nil for nowhere.
func (o *options) notes() io.Writer {
	switch {
	case o.quiet:
		return nil
	case o.command.TTY && terminal.Is(o.In):
		return terminal.RawWriter{Writer: o.ErrOut}
	}
	return o.ErrOut
}
