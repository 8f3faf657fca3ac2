package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

// connectionPrefix is how the name of a connection is told from that of a pool.
const connectionPrefix = "connection/"

// drainOptions replace connections.
type drainOptions struct {
	*factory
	output     output
	namespace  string
	pool       string
	connection string
}

// newDrainCommand replaces connections.
func newDrainCommand(f *factory) *cobra.Command {
	o := &drainOptions{factory: f}
	command := &cobra.Command{
		Use:   "drain POOL | " + connectionPrefix + "NAME",
		Short: "Replace connections by fresh ones, without cutting what runs on them",
		Long: "Replace all connections of a pool, or one connection, by fresh ones. An old\n" +
			"connection is closed when nothing uses it any more: nothing is cut.",
		Example: f.examples(
			"every connection of a pool, for example after its hosts were restarted", "drain web",
			"one connection", "drain "+connectionPrefix+"web-1-7"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completeDrain,
		RunE:              runs(o),
	}
	o.output.register(command, outputJSON, outputYAML)
	return command
}

// completeDrain completes pools and, once their prefix is typed, connections.
func (f *factory) completeDrain(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || !strings.HasPrefix(typed, connectionPrefix) {
		return f.completePools(command, args, typed)
	}
	return namesOf(f.listConnections)(command, args, typed)
}

// listConnections lists connections as drain takes them.
func (f *factory) listConnections(ctx context.Context, _ []string) ([]string, error) {
	live, err := f.live()
	if err != nil {
		return nil, err
	}
	namespace, err := f.namespace()
	if err != nil {
		return nil, err
	}
	list, err := live.Connections(ctx, namespace, metav1.ListOptions{Limit: pageOfConnections})
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list.Items))
	for _, connection := range list.Items {
		names = append(names, connectionPrefix+connection.Name)
	}
	return names, nil
}

func (o *drainOptions) complete(_ *cobra.Command, args []string) (err error) {
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
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *drainOptions) validate() error {
	if o.pool == "" && o.connection == "" {
		return errors.New("name a pool, or " + connectionPrefix + "NAME")
	}
	return o.output.validate()
}

func (o *drainOptions) run(ctx context.Context) error {
	drained, err := o.drain(ctx)
	if err != nil {
		return err
	}
	if o.output.machine() {
		drain := livev1alpha1.Drain{Status: livev1alpha1.DrainStatus{Connections: int32(drained)}}
		drain.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("Drain"))
		return o.output.encode(o.Out, drain)
	}
	switch {
	case o.connection != "":
		fmt.Fprintf(o.Out, "Connection %s is being replaced; it closes when nothing uses it any more.\n", o.connection)
	case drained == 0:
		fmt.Fprintf(o.Out, "Pool %s has no connections to replace.\n", o.pool)
	default:
		fmt.Fprintf(o.Out, "Pool %s: %s being replaced; each closes when nothing uses it any more.\n",
			o.pool, count(drained, "connection is", "connections are"))
	}
	return nil
}

// drain returns how many connections are being replaced.
func (o *drainOptions) drain(ctx context.Context) (int, error) {
	live, err := o.live()
	if err != nil {
		return 0, err
	}
	if o.connection != "" {
		return 1, o.explainConnection(ctx, live.DrainConnection(ctx, o.namespace, o.connection))
	}
	drained, err := live.Pool(o.namespace, o.pool).Drain(ctx)
	return drained, o.explain(ctx, err, askedToCreate(pools+"/drain", o.namespace, o.pool))
}

func (o *drainOptions) explainConnection(ctx context.Context, err error) error {
	if apierrors.IsNotFound(err) && isNamed(err) {
		return hinted(err, "Connections come and go. See those that there are: %s connections", o.name)
	}
	return o.explain(ctx, err, askedToCreate("connections/drain", o.namespace, o.connection))
}
