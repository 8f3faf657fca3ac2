package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// sessionPrefix is how -o name marks a session, and may be typed.
const sessionPrefix = "session/"

// sessionNames takes away what -o name has added.
func sessionNames(args []string) []string {
	names := make([]string, 0, len(args))
	for _, arg := range args {
		names = append(names, strings.TrimPrefix(arg, sessionPrefix))
	}
	return names
}

// newSessionCommand is the parent of what can be done with sessions.
func newSessionCommand(f *factory) *cobra.Command {
	command := &cobra.Command{
		Use:     "session",
		Aliases: []string{"sessions"},
		Short:   "Run several commands in one shell",
		Long: "Run several commands in one shell that stays: they keep its directory, its\n" +
			"variables and its functions, and each has its own output and exit code, for one\n" +
			"round trip. A session ends when it is deleted, has been idle for too long or is\n" +
			"too old.",
		Example: f.examples(
			"open one, and remember its name", "session create web/web-1",
			"run a command in it", "session exec NAME -- cd /srv/app",
			"and another one, for its shell", "session exec NAME --shell -- 'git log -1 | cat'",
			"end it", "session delete NAME"),
	}
	command.AddGroup(&cobra.Group{ID: groupUse, Title: "Commands:"})
	addTo(command, groupUse,
		newSessionCreateCommand(f), newSessionExecCommand(f), newSessionListCommand(f), newSessionDeleteCommand(f))
	return command
}

// sessionCreateOptions open a session.
type sessionCreateOptions struct {
	*factory
	output    output
	command   remoteCommand // without words: where the shell runs
	namespace string
	session   client.SessionOptions
}

// newSessionCreateCommand opens a session.
func newSessionCreateCommand(f *factory) *cobra.Command {
	o := &sessionCreateOptions{factory: f}
	command := &cobra.Command{
		Use:   "create POOL[/TARGET]",
		Short: "Open a session and print its name",
		Long: "Open a shell that stays, on a host, in a container or in a pod, and print its\n" +
			"name. It holds a use of a connection until it ends. Only you can use it.",
		Example: f.examples(
			"on a host", "session create web/web-1",
			"in a container, for a script", "session create ci --container web --ttl 4h -o name",
			"with a variable, until nothing has run for a minute", "session create web --env STAGE=prod --idle-timeout 1m"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completePoolSlashTarget,
		RunE:              runs(o),
	}
	o.output.register(command, outputJSON, outputYAML, outputName)
	flags := command.Flags()
	o.command.place.register(flags)
	flags.StringVar(&o.command.target, "target", "", "Target of the pool; the same as POOL/TARGET")
	flags.StringArrayVar(&o.command.env, "env", nil, "NAME=value for the shell; may be repeated")
	flags.StringVar(&o.session.Name, "name", "", "Name of the session; chosen for you when absent")
	flags.DurationVar(&o.session.TTL, "ttl", livev1alpha1.DefaultSessionTTLSeconds*time.Second,
		"End it after this long, whatever it does; at most 24h")
	flags.DurationVar(&o.session.IdleTimeout, "idle-timeout", livev1alpha1.DefaultSessionIdleTimeoutSeconds*time.Second,
		"End it when it has run nothing for this long")
	completeFlag(command, "target", namesOf(f.listTargets))
	return command
}

func (o *sessionCreateOptions) complete(_ *cobra.Command, args []string) (err error) {
	if err := o.command.readPool(args[0]); err != nil {
		return err
	}
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *sessionCreateOptions) validate() error {
	const longest = livev1alpha1.MaxSessionTTLSeconds * time.Second
	for flag, d := range map[string]time.Duration{"ttl": o.session.TTL, "idle-timeout": o.session.IdleTimeout} {
		if d <= 0 || d > longest {
			return fmt.Errorf("--%s %s is not between 1s and %s", flag, d, longest)
		}
	}
	if o.session.Name != "" && !isName(o.session.Name) {
		return fmt.Errorf("--name %q is no name of a Kubernetes object", o.session.Name)
	}
	if err := o.command.validate(); err != nil {
		return err
	}
	return o.output.validate()
}

func (o *sessionCreateOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	where := o.command.forClient()
	o.session.Target, o.session.Container, o.session.Pod, o.session.Namespace = where.Target, where.Container, where.Pod, where.Namespace
	o.session.Env = where.Env
	session, err := live.NewSession(ctx, o.namespace, o.command.pool, o.session)
	switch {
	case errors.Is(err, client.ErrUnknown):
		return hinted(fmt.Errorf("there may be a session or not: %w", err), "Look for it: %s session list", o.name)
	case err != nil:
		return o.explain(ctx, err, askedToOpenSession(o.namespace, o.command.pool, o.command.target))
	}
	return o.print(ctx, session)
}

func (o *sessionCreateOptions) print(ctx context.Context, session *client.Session) error {
	switch {
	case o.output.form == outputName:
		fmt.Fprintln(o.Out, sessionPrefix+oneLine(session.Name()))
	case o.output.machine():
		object, err := session.Get(ctx)
		if err != nil {
			return o.explain(ctx, err, askedForSessions(o.namespace, "get"))
		}
		object.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("Session"))
		return o.output.encode(o.Out, object)
	default:
		fmt.Fprintln(o.Out, oneLine(session.Name()))
	}
	return nil
}
