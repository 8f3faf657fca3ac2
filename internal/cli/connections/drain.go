package connections

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// connectionPrefix distinguishes the name of a connection from that of a pool.
const connectionPrefix = "connection/"

// drainOptions replace connections.
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
		Short: "Replace connections by fresh ones, without cutting what runs on them",
		Long: "Replace all connections of a pool, or one connection, by fresh ones. An old\n" +
			"connection is closed when nothing uses it any more: nothing is cut.",
		Example: f.Examples(
			"every connection of a pool, for example after its hosts were restarted", "drain web",
			"one connection", "drain "+connectionPrefix+"web-1-7"),
		Args:              cobra.ExactArgs(1),
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

// listConnections lists connections as drain takes them. The first page is enough
// for a Tab.
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
	kind, name, qualified := strings.Cut(args[0], "/")
	switch {
	case !qualified:
		o.pool = args[0]
	case strings.TrimSuffix(kind, "s")+"/" == connectionPrefix:
		o.connection = name
	case kind == "pool" || strings.TrimSuffix(kind, "s") == "connectionpool":
		o.pool = name
	default:
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

// drain returns how many connections are being replaced.
func (o *drainOptions) drain(ctx context.Context, live *client.Client) (int, error) {
	if o.connection != "" {
		err := live.DrainConnection(ctx, o.Namespace, o.connection)
		return 1, o.Cluster.Explain(ctx, err, cluster.AskedToCreate(cluster.Connections+"/drain", o.Namespace, o.connection))
	}
	drained, err := live.Pool(o.Namespace, o.pool).Drain(ctx)
	return drained, o.Cluster.Explain(ctx, err, cluster.AskedToCreate(cluster.Pools+"/drain", o.Namespace, o.pool))
}
