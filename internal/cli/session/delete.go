package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// deleteOptions end sessions.
type deleteOptions struct {
	*plugin.Factory
	names []string
	all   bool
}

// newDelete returns the command session delete.
func newDelete(f *plugin.Factory) *cobra.Command {
	o := &deleteOptions{Factory: f}
	command := &cobra.Command{
		Use:               "delete SESSION... | --all",
		Aliases:           []string{"rm"},
		Short:             "End sessions, and what runs in them",
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
		return errors.New("name either sessions or --all")
	}
	return nil
}

func (o *deleteOptions) run(ctx context.Context, live *client.Client) (err error) {
	if o.all {
		if o.names, err = o.ours(ctx, live); err != nil {
			return err
		}
	}
	failed := 0
	for _, name := range o.names {
		if err := live.Session(o.Namespace, name).Delete(ctx); err != nil {
			what := cluster.AskedForSessions(o.Namespace, "delete")
			what.Session = name
			exit.Print(o.ErrOut, o.Cluster.Explain(ctx, err, what))
			failed++
			continue
		}
		fmt.Fprintf(o.Out, "%s%s deleted\n", prefix, display.OneLine(name))
	}
	if failed > 0 {
		return exit.With(exit.Failed)
	}
	return nil
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
