// Package connections lists the warm connections of pools, and replaces them by
// fresh ones.
//
// New makes the command connections, and NewDrain the command drain. Both ask the
// live API, so what they show and do is of this moment.
//
// Trade-off: for drain the name of a connection is typed as connection/NAME,
// because drain takes pools as well, and a pool can have the same name.
package connections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/output"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/columns"
)

type options struct {
	*plugin.Factory
	list   *output.Flags
	pool   string
	target string
	state  string
}

// New returns the command connections.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:     "connections [POOL]",
		Aliases: []string{"connection", "conns", "cconn"},
		Short:   "List the warm connections",
		Example: f.Examples(
			"all connections of the namespace", "connections",
			"those of a pool that are in use now", "connections web --state InUse",
			"those of all namespaces to targets with a label", "connections -A -l tier=front",
			"the busiest last, and then what changes", "connections --sort-by .useCount -w"),
		Args:              plugin.Args(0, 1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	o.list = output.Register(f, command, "targets")
	flags := command.Flags()
	flags.StringVar(&o.target, "target", "", "Only connections to this target")
	flags.StringVar(&o.state, "state", "", "Only those in one state: "+strings.Join(cluster.ConnectionStates, ", "))
	plugin.CompleteFlag(command, "target", f.CompleteTarget)
	plugin.CompleteFlag(command, "state", cobra.FixedCompletions(cluster.ConnectionStates, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	for _, state := range cluster.ConnectionStates {
		if strings.EqualFold(state, o.state) {
			o.state = state
		}
	}
	o.pool, o.target = plugin.First(args), cluster.TargetName(o.target)
	return nil
}

func (o *options) validate() error {
	if o.state != "" && !slices.Contains(cluster.ConnectionStates, o.state) {
		return fmt.Errorf("--state %q is not a valid state: use one of %s", o.state, strings.Join(cluster.ConnectionStates, ", "))
	}
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	list := &output.List[livev1alpha1.Connection]{
		Flags: o.list, Kind: "connections", Prefix: connectionPrefix, Columns: columns.Connections, Of: output.OfPool(o.pool),
		Read: func(ctx context.Context) ([]livev1alpha1.Connection, error) { return o.read(ctx, live) },
		Wrap: func(items []livev1alpha1.Connection) any {
			list := livev1alpha1.ConnectionList{Items: items}
			list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("ConnectionList"))
			return list
		},
		Key: func(c *livev1alpha1.Connection) types.NamespacedName {
			return types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
		},
		Gone: func(c *livev1alpha1.Connection) { c.State = closed },
	}
	return list.Show(ctx)
}

// closed is the state of a connection that is no longer there, in a watch.
const closed livev1alpha1.ConnectionState = "Closed"

func (o *options) read(ctx context.Context, live *client.Client) ([]livev1alpha1.Connection, error) {
	options := metav1.ListOptions{LabelSelector: o.list.Selector, FieldSelector: o.fields()}
	list, err := cluster.AllConnections(ctx, live, o.Namespace, options)
	if err != nil {
		return nil, o.Cluster.Explain(ctx, err, cluster.AskedForConnections(o.Namespace))
	}
	if len(list.Items) == 0 {
		err = o.Cluster.RequireNames(ctx, o.Namespace, o.pool, o.target)
	}
	slices.SortFunc(list.Items, func(a, b livev1alpha1.Connection) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pool, b.Pool),
			strings.Compare(a.Target, b.Target), strings.Compare(a.Name, b.Name))
	})
	return list.Items, err
}

// fields returns the selector of what is asked for.
func (o *options) fields() string {
	set := fields.Set{livev1alpha1.FieldPool: o.pool, livev1alpha1.FieldTarget: o.target, livev1alpha1.FieldState: o.state}
	maps.DeleteFunc(set, func(_, word string) bool { return word == "" })
	return set.AsSelector().String()
}

// connectionPrefix distinguishes the name of a connection from that of a pool.
const connectionPrefix = "connection/"

type drainOptions struct {
	*plugin.Factory
	pool       string
	connection string
}

// NewDrain returns the command drain.
func NewDrain(f *plugin.Factory) *cobra.Command {
	o := &drainOptions{Factory: f}
	command := &cobra.Command{
		Use:   "drain POOL | " + connectionPrefix + "NAME",
		Short: "Replace connections with fresh ones, without interrupting what runs on them",
		Long: "Replace all connections of a pool, or one connection, with fresh ones. An old\n" +
			"connection is closed when nothing uses it any more: nothing is interrupted.",
		Example: f.Examples(
			"every connection of a pool, for example after its hosts were restarted", "drain web",
			"one connection", "drain "+connectionPrefix+"web-1-1f97440b27"),
		Args:              plugin.Args(1, 1),
		ValidArgsFunction: completion(f),
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	return command
}

// completion completes pools and, once their prefix is typed, connections.
func completion(f *plugin.Factory) cobra.CompletionFunc {
	connections := f.LiveNames(listConnections)
	return plugin.Once(func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if !strings.HasPrefix(typed, connectionPrefix) {
			return f.CompletePool(command, args, typed)
		}
		return connections(command, args, typed)
	})
}

// listConnections lists what drain takes. The first page is enough for a Tab.
func listConnections(ctx context.Context, live *client.Client, namespace string) ([]string, error) {
	list, err := live.Connections(ctx, namespace, metav1.ListOptions{Limit: cluster.ConnectionsPerPage})
	if err != nil {
		return nil, err
	}
	names := cluster.Names(list.Items)
	for i, name := range names {
		names[i] = connectionPrefix + name
	}
	return names, nil
}

func (o *drainOptions) complete(_ *cobra.Command, args []string) error {
	kind, name, isQualified := strings.Cut(args[0], "/")
	resource := strings.TrimSuffix(strings.TrimSuffix(kind, "."+livev1alpha1.GroupName), "s")
	if isQualified && resource+"/" == connectionPrefix {
		o.connection = name
		return nil
	}
	if o.pool = cluster.PoolName(args[0]); strings.Contains(o.pool, "/") {
		return fmt.Errorf("%q is neither a pool nor %sNAME", args[0], connectionPrefix)
	}
	return nil
}

func (o *drainOptions) validate() error {
	if o.pool == "" && o.connection == "" {
		return errors.New("name a pool, or " + connectionPrefix + "NAME")
	}
	return nil
}

func (o *drainOptions) run(ctx context.Context, live *client.Client) error {
	drained, err := o.drain(ctx, live)
	if err != nil {
		return err
	}
	if o.Output.IsMachine() {
		drain := livev1alpha1.Drain{Status: livev1alpha1.DrainStatus{Connections: int32(drained)}}
		drain.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("Drain"))
		return o.Output.Encode(o.Out, drain)
	}
	switch {
	case o.connection != "":
		fmt.Fprintf(o.Out, "Connection %s is being replaced; it closes when nothing uses it any more.\n", o.connection)
	case drained == 0:
		fmt.Fprintf(o.Out, "Pool %s has no connections to replace.\n", o.pool)
	default:
		fmt.Fprintf(o.Out, "Pool %s: %s being replaced; each closes when nothing uses it any more.\n",
			o.pool, display.Count(drained, "connection is", "connections are"))
	}
	return nil
}

func (o *drainOptions) drain(ctx context.Context, live *client.Client) (int, error) {
	if o.connection != "" {
		err := live.DrainConnection(ctx, o.Namespace, o.connection)
		return 1, o.Cluster.Explain(ctx, err, cluster.AskedToCreate(cluster.Connections+"/drain", o.Namespace, o.connection))
	}
	drained, err := live.Pool(o.Namespace, o.pool).Drain(ctx)
	return drained, o.Cluster.Explain(ctx, err, cluster.AskedToCreate(cluster.Pools+"/drain", o.Namespace, o.pool))
}
