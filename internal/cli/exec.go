package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// Exit codes of exec that are not the remote command's. Those of ssh, docker and
// env are lower and are taken by commands themselves.
const (
	// exitNotStarted says that the command surely did not run.
	exitNotStarted = 254
	// exitUnknown says that the command may have run; ssh says it in the same way.
	exitUnknown = 255
	// exitInterrupted is what a shell says of a program that Ctrl-C ended.
	exitInterrupted = 130
)

const envUsage = "NAME=value to offer to the server, which may ignore it; not for secrets; may be repeated"

// execOptions run one command.
type execOptions struct {
	*factory
	command   remoteCommand
	namespace string
	stdin     bool
	timeout   time.Duration
	quiet     bool
	shell     bool
}

// newExecCommand runs one command.
func newExecCommand(f *factory) *cobra.Command {
	o := &execOptions{factory: f}
	command := &cobra.Command{
		Use:   "exec POOL[/TARGET] [-- COMMAND [ARGUMENT...]]",
		Short: "Run a command through a pool",
		Long: "Run a command on a target, over a connection that is already there.\n\n" +
			"It runs on a host; in the --container of a Docker engine; or in the --pod of a\n" +
			"cluster. Its arguments arrive as given; no shell interprets them unless --shell\n" +
			"asks for it. Without -i the command's input is empty. Without a command, -it opens\n" +
			"a shell. Ctrl-C signals the command; a second one leaves at once.\n\n" +
			"The exit code is the command's, or 128 plus the number of the signal that ended\n" +
			"it. Two codes are this program's own, and come with a message:\n\n" +
			"  254  the command surely did not run: it is safe to try again\n" +
			"  255  the command may have run: find out before you try again",
		Example: f.examples(
			"on the only target of a pool, or any that the pool chooses", "exec web -- uptime",
			"on one target", "exec web/web-1 -- systemctl restart nginx",
			"in a container", "exec ci --container web -- ps",
			"in a pod", "exec cluster --pod web-0 --pod-namespace shop -- ls /data",
			"a line for the remote shell", "exec web/web-1 --shell -- 'ls /var/log | wc -l'",
			"with input", "exec db/db-1 -i -- psql < dump.sql"),
		ValidArgsFunction:     f.completePoolSlashTarget,
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{failureCode: "true"},
		RunE:                  runs(o),
	}
	flags := command.Flags()
	o.command.place.register(flags)
	flags.StringVar(&o.command.target, "target", "", "Target of the pool; the same as POOL/TARGET")
	flags.BoolVarP(&o.stdin, "stdin", "i", false, "Pass input on to the command")
	flags.BoolVarP(&o.command.tty, "tty", "t", false, "Give the command a terminal")
	flags.BoolVar(&o.shell, "shell", false, "Let the remote user's shell interpret the command")
	flags.StringArrayVar(&o.command.env, "env", nil, envUsage)
	flags.DurationVar(&o.timeout, "timeout", 0, "End the command after this long, such as 30s; 0 means never")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Say nothing but what the command says")
	completeFlag(command, "target", namesOf(f.listTargets))
	return command
}

func (o *execOptions) complete(command *cobra.Command, args []string) (err error) {
	if err := o.command.read(command, args, o.shell); err != nil {
		return o.withUsage(command, err)
	}
	if o.command.tty && !isTerminal(o.In) {
		o.command.tty = false
		o.note("without a terminal: standard input is none")
	}
	o.namespace, err = o.factory.namespace()
	return err
}

// withUsage adds what could have been typed.
func (o *execOptions) withUsage(command *cobra.Command, err error) error {
	return hinted(err, "For example: %s %s web/web-1 -- uptime", o.name, command.Name())
}

func (o *execOptions) validate() error {
	if o.timeout < 0 {
		return fmt.Errorf("--timeout %s is negative", o.timeout)
	}
	if o.command.empty() && !o.command.tty {
		return errors.New("there is no command: write it after --, or ask for a shell with -it")
	}
	return o.command.validate()
}

// note says something that is not an error.
func (o *execOptions) note(text string) {
	if !o.quiet {
		fmt.Fprintln(o.ErrOut, "note:", text)
	}
}

func (o *execOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	result, err := o.stream(ctx, live.Pool(o.namespace, o.command.pool))
	end := ending{quiet: o.quiet, what: askedToStream("exec", o.namespace, o.command.pool, o.command.target), interrupted: signaled}
	return o.endOf(ctx, end, result, err)
}

// stream runs the command, in a raw terminal if it has one.
func (o *execOptions) stream(ctx context.Context, pool *client.Pool) (client.Result, error) {
	command, streams := o.command.forClient(), client.Streams{Stdout: o.Out, Stderr: o.ErrOut}
	command.Timeout = o.timeout
	if o.stdin {
		command.Stdin = o.In
	}
	file, ok := o.In.(*os.File)
	if !o.command.tty || !ok {
		return pool.Stream(ctx, command, streams)
	}
	terminal, err := openTerminal(ctx, file)
	if err != nil {
		return client.Result{}, &client.Error{Outcome: livev1alpha1.OutcomeNotStarted, Message: err.Error(), Err: err}
	}
	defer terminal.restore()
	streams.Terminal = &client.Terminal{Term: os.Getenv("TERM"), Size: terminal.size, Resize: terminal.sizes}
	return pool.Stream(ctx, command, streams)
}

// ending is how to tell of the end of a command.
type ending struct {
	// quiet says nothing but by the exit code.
	quiet bool
	// what was asked for, in case that it was refused.
	what asked
	// interrupted is what Ctrl-C did to the command.
	interrupted string
}

// signaled is what Ctrl-C does to a command that has a connection's session of
// its own.
const signaled = "the command was told to end, and may have done part of its work; " +
	"a server that allows no signals, such as sshd for root, lets it go on"

// endOf is the error whose exit code is that of the command or, if it has none,
// says why.
func (f *factory) endOf(ctx context.Context, end ending, result client.Result, err error) error {
	if err == nil {
		return nil
	}
	if exit, ok := errors.AsType[*client.ExitError](err); ok {
		return exitWith(exit.Code)
	}
	code, err := f.ended(ctx, end, result, err)
	if end.quiet {
		err = nil
	}
	return &exitError{code: code, err: err}
}

// ended is the exit code of a command of which no exit code is known, and what
// there is to say.
func (f *factory) ended(ctx context.Context, end ending, result client.Result, err error) (int, error) {
	switch {
	case ctx.Err() != nil && errors.Is(err, client.ErrNotStarted):
		return exitInterrupted, errors.New("interrupted before the command started")
	case ctx.Err() != nil:
		return exitInterrupted, fmt.Errorf("interrupted: %s%s", end.interrupted, requestOf(result))
	case errors.Is(err, client.ErrNotStarted):
		return exitNotStarted, f.explain(ctx, err, end.what)
	default:
		return exitUnknown, hinted(err, "Find out whether it ran before you run it again.")
	}
}

// requestOf names the request, so that somebody can look for it in the logs.
func requestOf(result client.Result) string {
	if result.RequestID == "" {
		return ""
	}
	return " (request " + result.RequestID + ")"
}

// remoteCommand is what to run, and where.
type remoteCommand struct {
	pool   string
	target string
	place  place
	// words of the command, or a line for the shell.
	words []string
	line  string
	env   []string
	tty   bool
}

// forClient is the command in the words of the client.
func (c *remoteCommand) forClient() client.Command {
	words := c.words
	if c.empty() && !c.place.isHost() {
		words = []string{"sh"} // there is no login to tell which shell
	}
	return client.Command{
		Target: c.target, Container: c.place.container, Pod: c.place.pod, Namespace: c.place.namespace,
		Argv: words, Shell: c.line, Env: c.variables(),
	}
}

// variables are the --env flags.
func (c *remoteCommand) variables() map[string]string {
	env := make(map[string]string, len(c.env))
	for _, pair := range c.env {
		name, text, _ := strings.Cut(pair, "=")
		env[name] = text
	}
	return env
}

// read takes POOL[/TARGET] and the command behind -- from the arguments.
func (c *remoteCommand) read(command *cobra.Command, args []string, shell bool) error {
	before, words, err := splitAtDash(command, args, "pool")
	if err != nil {
		return err
	}
	c.words = words
	if shell {
		c.line, c.words = strings.Join(c.words, " "), nil
	}
	return c.readPool(before)
}

// readPool takes POOL[/TARGET].
func (c *remoteCommand) readPool(argument string) error {
	pool, target := poolAndTarget(argument)
	if target != "" && c.target != "" && target != c.target {
		return fmt.Errorf("%s and --target %s name different targets", argument, c.target)
	}
	c.pool = pool
	if target != "" {
		c.target = target
	}
	return nil
}

// splitAtDash takes the name of something and the command behind --.
func splitAtDash(command *cobra.Command, args []string, what string) (name string, words []string, err error) {
	dash := command.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	switch {
	case dash == 0:
		return "", nil, fmt.Errorf("which %s? Its name comes first", what)
	case dash > 1:
		return "", nil, fmt.Errorf("write -- before the command: %s -- %s", args[0], strings.Join(args[1:], " "))
	}
	return args[0], args[dash:], nil
}

func (c *remoteCommand) empty() bool { return len(c.words) == 0 && c.line == "" }

func (c *remoteCommand) validate() error {
	if c.pool == "" {
		return errors.New("the pool has no name")
	}
	if err := c.place.validate(); err != nil {
		return err
	}
	if err := c.validateEnv(); err != nil {
		return err
	}
	return c.validateWords()
}

// validateWords keeps a command within the bounds of the API.
func (c *remoteCommand) validateWords() error {
	if len(c.words) > livev1alpha1.MaxCommandArguments {
		return fmt.Errorf("the command has %d words, and at most %d are allowed", len(c.words), livev1alpha1.MaxCommandArguments)
	}
	size := len(c.line)
	for _, word := range c.words {
		size += len(word)
	}
	if size > livev1alpha1.MaxCommandBytes {
		return fmt.Errorf("the command has %d bytes, and at most %d are allowed", size, livev1alpha1.MaxCommandBytes)
	}
	return nil
}

func (c *remoteCommand) validateEnv() error {
	for _, pair := range c.env {
		if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
			return fmt.Errorf("--env %q is not of the form NAME=value", pair)
		}
	}
	return nil
}
