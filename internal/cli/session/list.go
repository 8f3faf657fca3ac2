package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/output"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/columns"
)

type listOptions struct {
	*plugin.Factory
	list  *output.Flags
	pool  string
	wants labels.Selector
}

func newList(f *plugin.Factory) *cobra.Command {
	o := &listOptions{Factory: f}
	command := &cobra.Command{
		Use:     "list [POOL]",
		Aliases: []string{"ls"},
		Short:   "List sessions, and why some have ended",
		Long: "List sessions. A session that has ended stays in the list for some minutes, with the\n" +
			"reason.",
		Example: f.Examples("those of the namespace", "session list",
			"those of a pool, and then what changes", "session list web -w",
			"with their places and connections", "session list -A -o wide"),
		Args:              plugin.Args(0, 1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	o.list = output.Register(f, command, "sessions")
	return command
}

func (o *listOptions) complete(_ *cobra.Command, args []string) error {
	o.pool = plugin.First(args)
	return nil
}

func (o *listOptions) validate() (err error) {
	if o.wants, err = labels.Parse(o.list.Selector); err != nil {
		return fmt.Errorf("--selector: %w", err)
	}
	return nil
}

func (o *listOptions) run(ctx context.Context, live *client.Client) error {
	list := &output.List[livev1alpha1.Session]{
		Flags: o.list, Kind: "sessions", Prefix: prefix, Columns: columns.Sessions, Of: output.OfPool(o.pool),
		Read: func(ctx context.Context) ([]livev1alpha1.Session, error) { return o.read(ctx, live) },
		Wrap: func(items []livev1alpha1.Session) any {
			list := livev1alpha1.SessionList{Items: items}
			list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("SessionList"))
			return list
		},
		Key: func(s *livev1alpha1.Session) types.NamespacedName {
			return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		},
	}
	return list.Show(ctx)
}

func (o *listOptions) read(ctx context.Context, live *client.Client) ([]livev1alpha1.Session, error) {
	list, err := live.Sessions(ctx, o.Namespace)
	if err != nil {
		return nil, o.Cluster.Explain(ctx, err, cluster.AskedForSessions(o.Namespace, "get", "list"))
	}
	items := slices.DeleteFunc(list.Items, func(s livev1alpha1.Session) bool {
		return o.pool != "" && s.Spec.Pool != o.pool || !o.wants.Matches(labels.Set(s.Labels))
	})
	if len(items) == 0 && o.pool != "" {
		err = o.Cluster.RequirePool(ctx, o.Namespace, o.pool)
	}
	slices.SortFunc(items, func(a, b livev1alpha1.Session) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Spec.Pool, b.Spec.Pool), strings.Compare(a.Name, b.Name))
	})
	return items, err
}
