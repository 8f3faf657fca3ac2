package session

import (
	"context"
	"errors"
	"fmt"
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

// createOptions open a session.
type createOptions struct {
	*plugin.Factory
	command remote.Command // without words: where the shell runs
	session client.SessionOptions
}

// newCreate returns the command session create.
func newCreate(f *plugin.Factory) *cobra.Command {
	o := &createOptions{Factory: f}
	command := &cobra.Command{
		Use:   "create POOL[/TARGET]",
		Short: "Open a session and print its name",
		Long: "Open a shell that stays, on a host, in a container or in a pod, and print its\n" +
			"name. It holds a use of a connection until it ends. Only you can use it.",
		Example: f.Examples(
			"on a host", "session create web/web-1",
			"in a container, for a script", "session create ci --container web --ttl 4h -o name",
			"with a variable, until nothing has run for a minute", "session create web --env STAGE=prod --idle-timeout 1m"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.CompletePoolSlashTarget,
		RunE:              f.LiveE(o.command.ReadPool, o.validate, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name)
	flags := command.Flags()
	o.command.Place.Register(flags)
	o.command.RegisterTarget(f, command)
	flags.StringArrayVar(&o.command.Env, "env", nil, "NAME=value for the shell; may be repeated")
	flags.StringVar(&o.session.Name, "name", "", "Name of the session; chosen for you when absent")
	flags.DurationVar(&o.session.TTL, "ttl", livev1alpha1.DefaultSessionTTLSeconds*time.Second,
		"End it after this long, whatever it does; at most 24h")
	flags.DurationVar(&o.session.IdleTimeout, "idle-timeout", livev1alpha1.DefaultSessionIdleTimeoutSeconds*time.Second,
		"End it when it has run nothing for this long")
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
		return fmt.Errorf("--name %q is no name of a Kubernetes object", o.session.Name)
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
		return exit.Hint(fmt.Errorf("there may be a session or not: %w", err), "Look for it: %s session list", o.Name)
	case err != nil:
		return o.Cluster.Explain(ctx, err, cluster.AskedToOpenSession(o.Namespace, o.command.Pool, o.command.Target))
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
