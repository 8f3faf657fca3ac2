// Package session opens, uses, lists and ends sessions: shells on a target that
// stay, so that several commands keep one directory and one environment.
//
// New makes the command session with one command below it for each of these.
//
// Trade-off: a command in a session has no input, and Ctrl-C ends the session
// together with it. Both belong to the shell, which serves one command after the
// other.
package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
)

// prefix is how -o name marks a session. It may be typed before a name.
const prefix = "session/"

func nameOf(argument string) string { return strings.TrimPrefix(argument, prefix) }

// New returns the command session, with the commands below it.
func New(f *plugin.Factory) *cobra.Command {
	command := &cobra.Command{
		Use:     "session",
		Aliases: []string{"sessions"},
		Short:   "Run several commands in one shell",
		Long: "Run several commands in one shell that stays open: they share its directory, its\n" +
			"variables and its functions, and each has its own output and exit code and costs one\n" +
			"round trip. A session ends when it is deleted, has been idle for too long or is too\n" +
			"old.",
		Example: f.Examples(
			"open one, and remember its name", "session create web/web-1",
			"run a command in it", "session exec NAME -- cd /srv/app",
			"and another one, for its shell", "session exec NAME --shell -- 'git log -1 | cat'",
			"end it", "session delete NAME"),
	}
	plugin.OnlyCommands(command)
	commands := &cobra.Group{ID: "commands", Title: "Commands:"}
	command.AddGroup(commands)
	for _, below := range []*cobra.Command{newCreate(f), newExec(f), newList(f), newDelete(f)} {
		below.GroupID = commands.ID
		command.AddCommand(below)
	}
	return command
}

type createOptions struct {
	*plugin.Factory
	command remote.Command // without words: where the shell runs
	session client.SessionOptions
	quiet   bool
}

func newCreate(f *plugin.Factory) *cobra.Command {
	o := &createOptions{Factory: f}
	command := &cobra.Command{
		Use:   "create POOL[/TARGET]",
		Short: "Open a session and print its name",
		Long: "Open a shell that stays open, on a host, in a container or in a pod, and print its\n" +
			"name. It holds one use of a connection until it ends. Only you can use it.",
		Example: f.Examples(
			"on a host", "session create web/web-1",
			"in a container, for a script", "session create ci --container web --ttl 4h -o name",
			"with a variable, until nothing has run for a minute", "session create web --env STAGE=prod --idle-timeout 1m"),
		Args:              plugin.Args(1, 1),
		ValidArgsFunction: f.CompletePoolSlashTarget,
		RunE:              f.LiveE(o.command.ReadPool, o.validate, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name)
	flags := command.Flags()
	o.command.Place.Register(flags)
	o.command.RegisterTarget(f, command)
	f.CompletePlaces(command)
	flags.StringArrayVar(&o.command.Env, "env", nil, "Environment variable of the shell, as NAME=value; may be repeated")
	flags.StringVar(&o.session.Name, "name", "", "Name of the session; by default, one is chosen for you")
	flags.DurationVar(&o.session.TTL, "ttl", livev1alpha1.DefaultSessionTTLSeconds*time.Second,
		"End the session after this long, even if it is in use; at most 24h")
	flags.DurationVar(&o.session.IdleTimeout, "idle-timeout", livev1alpha1.DefaultSessionIdleTimeoutSeconds*time.Second,
		"End the session after it has been idle for this long")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Do not say which container was chosen")
	return command
}

func (o *createOptions) validate() error {
	const longest = livev1alpha1.MaxSessionTTLSeconds * time.Second
	for flag, d := range map[string]time.Duration{"ttl": o.session.TTL, "idle-timeout": o.session.IdleTimeout} {
		if d <= 0 || d > longest {
			return fmt.Errorf("--%s %s is not between 1s and %s", flag, d, longest)
		}
	}
	if o.session.Name != "" && !cluster.IsName(o.session.Name) {
		return fmt.Errorf("--name %q is not a valid name of a Kubernetes object: use lower case letters, digits and hyphens",
			o.session.Name)
	}
	return o.command.Validate()
}

func (o *createOptions) run(ctx context.Context, live *client.Client) error {
	where := o.command.ForClient()
	o.session.Target, o.session.Container, o.session.Pod, o.session.Namespace = where.Target, where.Container, where.Pod, where.Namespace
	o.session.Env = where.Env
	session, err := live.NewSession(ctx, o.Namespace, o.command.Pool, o.session)
	switch {
	case errors.Is(err, client.ErrUnknown):
		return exit.Hint(fmt.Errorf("the session may or may not have been opened: %w", err), "Look for it: %s session list", o.Name)
	case err != nil:
		return o.Cluster.Explain(ctx, err, cluster.AskedToOpenSession(o.Namespace, o.command.Pool, o.command.Target))
	}
	if !o.quiet {
		remote.NoteContainer(o.ErrOut, session.Target(), session.Container())
	}
	return o.print(ctx, session)
}

func (o *createOptions) print(ctx context.Context, session *client.Session) error {
	switch {
	case o.Output.Form == plugin.Name:
		fmt.Fprintln(o.Out, prefix+display.OneLine(session.Name()))
	case o.Output.IsMachine():
		object, err := session.Get(ctx)
		if err != nil {
			return o.Cluster.Explain(ctx, err, cluster.AskedForSessions(o.Namespace, "get"))
		}
		object.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("Session"))
		return o.Output.Encode(o.Out, object)
	default:
		fmt.Fprintln(o.Out, display.OneLine(session.Name()))
	}
	return nil
}

type execOptions struct {
	*plugin.Factory
	command remote.Command // without a place, which the session has
	session string
	quiet   bool
}

func newExec(f *plugin.Factory) *cobra.Command {
	o := &execOptions{Factory: f}
	command := &cobra.Command{
		Use:   "exec SESSION -- COMMAND [ARGUMENT...]",
		Short: "Run a command in a session",
		Long: "Run a command in the shell of a session, after the commands that are already\n" +
			"waiting. Its arguments arrive as given, unless --shell asks the shell to interpret\n" +
			"them; builtins such as cd and export work either way. Its input is empty. Ctrl-C\n" +
			"ends the session together with the command.\n\n" +
			"The exit code is the command's, 254 if it certainly did not run, or 255 if it may\n" +
			"have run; the last two come with a message.",
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
	flags.DurationVar(&o.command.Timeout, "timeout", 0, "End the command, and the session, after this time, such as 30s; 0 means never")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Print only what the command prints")
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
		return errors.New("a command is missing: write it after --")
	}
	return o.command.ValidateWords()
}

func (o *execOptions) run(ctx context.Context, live *client.Client) error {
	command := o.command.ForClient()
	notes := o.ErrOut
	if o.quiet {
		notes = nil
	}
	_, err := remote.Stream(ctx, live.Session(o.Namespace, o.session), command, client.Streams{Stdout: o.Out, Stderr: o.ErrOut}, notes)
	ending := remote.Ending{
		Quiet: o.quiet, Asked: cluster.AskedToUseSession(o.Namespace, o.session), Command: &o.command, Notes: o.ErrOut,
	}
	return ending.Error(ctx, o.Cluster, err)
}

type deleteOptions struct {
	*plugin.Factory
	names []string
	all   bool
}

func newDelete(f *plugin.Factory) *cobra.Command {
	o := &deleteOptions{Factory: f}
	command := &cobra.Command{
		Use:               "delete SESSION... | --all",
		Aliases:           []string{"rm"},
		Short:             "End sessions and what runs in them",
		Example:           f.Examples("one", "session delete NAME", "all that are yours in the namespace", "session delete --all"),
		ValidArgsFunction: f.LiveNames(cluster.SessionNames),
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	command.Flags().BoolVar(&o.all, "all", false, "End all sessions in the namespace that are yours")
	return command
}

func (o *deleteOptions) complete(_ *cobra.Command, args []string) error {
	for _, arg := range args {
		o.names = append(o.names, nameOf(arg))
	}
	return nil
}

func (o *deleteOptions) validate() error {
	if (len(o.names) == 0) == !o.all {
		return errors.New("name the sessions to delete, or use --all")
	}
	return nil
}

func (o *deleteOptions) run(ctx context.Context, live *client.Client) (err error) {
	if o.all {
		if o.names, err = o.ours(ctx, live); err != nil {
			return err
		}
	}
	for _, name := range o.names {
		if failure := live.Session(o.Namespace, name).Delete(ctx); failure != nil {
			what := cluster.AskedForSessions(o.Namespace, "delete")
			what.Session = name
			exit.Print(o.ErrOut, o.Cluster.Explain(ctx, failure, what))
			err = exit.With(exit.Failed)
			continue
		}
		fmt.Fprintf(o.Out, "%s%s deleted\n", prefix, display.OneLine(name))
	}
	return err
}

// ours returns the sessions of the user that the cluster takes the caller for.
func (o *deleteOptions) ours(ctx context.Context, live *client.Client) ([]string, error) {
	plain, err := o.Cluster.Plain()
	if err != nil {
		return nil, err
	}
	us, err := plain.WhoAmI(ctx)
	if err != nil {
		return nil, fmt.Errorf("find out who you are: %w", err)
	}
	list, err := live.Sessions(ctx, o.Namespace)
	if err != nil {
		return nil, o.Cluster.Explain(ctx, err, cluster.AskedForSessions(o.Namespace, "get", "list"))
	}
	list.Items = slices.DeleteFunc(list.Items, func(s livev1alpha1.Session) bool {
		return s.Status.Owner != us || s.Status.State == livev1alpha1.SessionEnded
	})
	if len(list.Items) == 0 {
		fmt.Fprintf(o.ErrOut, "No sessions of %s in namespace %s.\n", display.OneLine(us), o.Namespace)
	}
	return cluster.Names(list.Items), nil
}
