package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// sessionDeleteOptions end sessions.
type sessionDeleteOptions struct {
	*factory
	namespace string
	names     []string
	all       bool
}

// newSessionDeleteCommand ends sessions.
func newSessionDeleteCommand(f *factory) *cobra.Command {
	o := &sessionDeleteOptions{factory: f}
	command := &cobra.Command{
		Use:     "delete SESSION... | --all",
		Aliases: []string{"rm"},
		Short:   "End sessions, and what runs in them",
		Example: f.examples("one", "session delete NAME", "all that are yours in the namespace", "session delete --all"),

		ValidArgsFunction: f.completeSessions,
		RunE:              runs(o),
	}
	command.Flags().BoolVar(&o.all, "all", false, "End all sessions in the namespace that are yours")
	return command
}

func (o *sessionDeleteOptions) complete(_ *cobra.Command, args []string) (err error) {
	o.names = sessionNames(args)
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *sessionDeleteOptions) validate() error {
	if (len(o.names) == 0) == !o.all {
		return errors.New("name either sessions or --all")
	}
	return nil
}

func (o *sessionDeleteOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	if o.all {
		if o.names, err = o.ours(ctx, live); err != nil {
			return err
		}
	}
	failed := 0
	for _, name := range o.names {
		if err := live.Session(o.namespace, name).Delete(ctx); err != nil {
			what := askedForSessions(o.namespace, "delete")
			what.session = name
			o.tell(o.explain(ctx, err, what))
			failed++

			continue
		}
		fmt.Fprintf(o.Out, "%s%s deleted\n", sessionPrefix, oneLine(name))
	}
	if failed > 0 {
		return exitWith(1)
	}
	return nil
}

// ours are the sessions of whoever the cluster takes us for.
func (o *sessionDeleteOptions) ours(ctx context.Context, live *client.Client) ([]string, error) {
	plain, err := o.plain()
	if err != nil {
		return nil, err
	}
	us, err := plain.whoAmI(ctx)
	if err != nil {
		return nil, fmt.Errorf("find out who you are: %w", err)
	}
	list, err := live.Sessions(ctx, o.namespace)
	if err != nil {
		return nil, o.explain(ctx, err, askedForSessions(o.namespace, "get", "list"))
	}
	var names []string
	for i := range list.Items {
		if s := &list.Items[i]; s.Status.Owner == us && s.Status.State != livev1alpha1.SessionEnded {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		fmt.Fprintf(o.ErrOut, "No sessions of %s in namespace %s.\n", oneLine(us), o.namespace)
	}
	return names, nil
}
