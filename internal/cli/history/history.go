// Package history is the command history: who uses and has used the pools, for what, and
// how that ended. It asks the live API, which has in memory what the audit lines say.
package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/output"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/columns"
)

const (
	defaultLimit = 50
	perPage      = 500
	// prefix of the names of uses.
	prefix = "use/"
)

var states = []string{string(livev1alpha1.UseRunning), string(livev1alpha1.UseEnded), string(livev1alpha1.UseRefused)}

type options struct {
	*plugin.Factory
	list         *output.Flags
	pool, target string
	user, state  string
	since        time.Duration
	limit        int
	// hasMore says that there are more than limit.
	hasMore bool
}

// New returns the command history.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "history [POOL]",
		Short: "Show who uses or used the pools, and how each use ended",
		Long: "Show who uses the pools or used them, for what, and how each use ended, newest\n" +
			"first. The operator remembers the newest 1,000 ended uses of each namespace, or\n" +
			"fewer if its memory is short, and forgets them when it restarts; its audit log has\n" +
			"the older ones. The words of a command are shown only if the operator runs with\n" +
			"--audit-commands.",
		Example: f.Examples(
			"the last uses of all pools of the namespace", "history",
			"who is connected to a pool now", "history web --state Running",
			"what a user did on a target in the last hour", "history --by alice --target web-1 --since 1h --limit 0",
			"the longest last", "history --sort-by .durationMicroseconds --limit 0",
			"the last uses of a pool, and then what is new or ends", "history web -w",
			"everything that the operator remembers, for a program", "history -A --limit 0 -o json"),
		Args:              plugin.Args(0, 1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	o.list = output.Register(f, command, "")
	flags := command.Flags()
	flags.StringVar(&o.target, "target", "", "Only uses of this target")
	flags.StringVar(&o.user, "by", "", "Only uses by this user, as Kubernetes names it")
	flags.StringVar(&o.state, "state", "", "Only those in one state: "+strings.Join(states, ", "))
	flags.DurationVar(&o.since, "since", 0, "Only those that run now or began within this time, such as 15m or 2h; 0 means all")
	flags.IntVar(&o.limit, "limit", defaultLimit, "How many to show at most; 0 means all")
	plugin.CompleteFlag(command, "target", f.CompleteTarget)
	plugin.CompleteFlag(command, "state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	for _, state := range states {
		if strings.EqualFold(state, o.state) {
			o.state = state
		}
	}
	o.pool, o.target = plugin.First(args), cluster.TargetName(o.target)
	return nil
}

func (o *options) validate() error {
	switch {
	case o.state != "" && !slices.Contains(states, o.state):
		return fmt.Errorf("--state %q is not a valid state: use one of %s", o.state, strings.Join(states, ", "))
	case o.since < 0:
		return errors.New("--since must not be negative: use a duration such as 15m or 2h")
	case o.limit < 0:
		return errors.New("--limit must not be negative: use 0 for all")
	}
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	list := &output.List[livev1alpha1.Use]{
		Flags: o.list, Kind: "uses", Prefix: prefix, Columns: columns.Uses, Of: output.OfPool(o.pool),
		Read: func(ctx context.Context) ([]livev1alpha1.Use, error) { return o.read(ctx, live) },
		Wrap: func(items []livev1alpha1.Use) any {
			list := livev1alpha1.UseList{Items: items}
			list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("UseList"))
			return list
		},
		Key: func(u *livev1alpha1.Use) types.NamespacedName {
			return types.NamespacedName{Namespace: u.Namespace, Name: u.Name}
		},
	}
	err := list.Show(ctx)
	if o.hasMore && err == nil && !o.Output.IsMachine() {
		fmt.Fprintf(o.ErrOut, "There are more; --limit 0 shows all.\n")
	}
	return err
}

// read reads the newest uses.
func (o *options) read(ctx context.Context, live *client.Client) ([]livev1alpha1.Use, error) {
	uses, err := o.readPages(ctx, live)
	if err != nil {
		return nil, o.Cluster.Explain(ctx, err, cluster.AskedForUses(o.Namespace))
	}
	if len(uses) == 0 {
		err = o.Cluster.RequireNames(ctx, o.Namespace, o.pool, o.target)
	}
	return uses, err
}

// readPages reads page by page, until there are as many as wanted.
func (o *options) readPages(ctx context.Context, live *client.Client) ([]livev1alpha1.Use, error) {
	uses := []livev1alpha1.Use{}
	o.hasMore = false
	options := metav1.ListOptions{FieldSelector: o.fields(), Limit: perPage}
	for {
		page, err := live.Uses(ctx, o.Namespace, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			if o.isTooOld(&page.Items[i]) {
				continue
			}
			if o.limit > 0 && len(uses) == o.limit {
				o.hasMore = true
				return uses, nil
			}
			uses = append(uses, page.Items[i])
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return uses, nil
		}
	}
}

// isTooOld reports whether a use began before --since. What runs is never too old.
func (o *options) isTooOld(use *livev1alpha1.Use) bool {
	return o.since > 0 && use.State != livev1alpha1.UseRunning && o.Now().Sub(use.CreationTimestamp.Time) > o.since
}

// fields returns the selector of what is asked for.
func (o *options) fields() string {
	set := fields.Set{
		livev1alpha1.FieldPool: o.pool, livev1alpha1.FieldTarget: o.target,
		livev1alpha1.FieldUser: o.user, livev1alpha1.FieldState: o.state,
	}
	maps.DeleteFunc(set, func(_, word string) bool { return word == "" })
	return set.AsSelector().String()
}
