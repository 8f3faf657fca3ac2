package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

// connectionsOptions list connections.
type connectionsOptions struct {
	*factory
	scope
	output   output
	pool     string
	target   string
	state    string
	selector string
}

// newConnectionsCommand lists connections.
func newConnectionsCommand(f *factory) *cobra.Command {
	o := &connectionsOptions{factory: f}
	command := &cobra.Command{
		Use:     "connections [POOL]",
		Aliases: []string{"conns"},
		Short:   "List the warm connections that there are now",
		Example: f.examples(
			"all connections of the namespace", "connections",
			"those of a pool that somebody uses now", "connections web --state InUse",
			"those of all namespaces to targets with a label", "connections -A -l tier=front"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.completePools,
		RunE:              runs(o),
	}
	o.scope.register(command)
	o.output.register(command, outputJSON, outputYAML, outputName, outputWide)
	flags := command.Flags()
	flags.StringVar(&o.target, "target", "", "Only those to this target")
	flags.StringVar(&o.state, "state", "", "Only those in this state: "+strings.Join(connectionStates, ", "))
	flags.StringVarP(&o.selector, "selector", "l", "", "Only those to targets with these labels")
	completeFlag(command, "target", namesOf(f.listTargets))
	completeFlag(command, "state", cobra.FixedCompletions(connectionStates, cobra.ShellCompDirectiveNoFileComp))
	return command
}

var connectionStates = []string{
	string(livev1alpha1.ConnectionIdle), string(livev1alpha1.ConnectionInUse), string(livev1alpha1.ConnectionDraining),
}

func (o *connectionsOptions) complete(_ *cobra.Command, args []string) error {
	o.pool = first(args)
	for _, state := range connectionStates {
		if strings.EqualFold(state, o.state) {
			o.state = state
		}
	}
	return o.scope.complete(o.factory)
}

func (o *connectionsOptions) validate() error {
	if o.pool != "" && o.all {
		return errNameAndAll
	}
	if o.state != "" && !slices.Contains(connectionStates, o.state) {
		return fmt.Errorf("--state %q is unknown: use one of %s", o.state, strings.Join(connectionStates, ", "))
	}
	return o.output.validate()
}

func (o *connectionsOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	list, err := allConnections(ctx, live, o.scope.namespace, metav1.ListOptions{LabelSelector: o.selector, FieldSelector: o.fields()})
	if err != nil {
		return o.explain(ctx, err, askedForConnections(o.scope.namespace))
	}
	slices.SortFunc(list.Items, func(a, b livev1alpha1.Connection) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pool, b.Pool),
			strings.Compare(a.Target, b.Target), strings.Compare(a.Name, b.Name))
	})
	return o.print(list)
}

// fields are what is asked for.
func (o *connectionsOptions) fields() string {
	set := fields.Set{}
	for field, word := range map[string]string{
		livev1alpha1.FieldPool: o.pool, livev1alpha1.FieldTarget: o.target, livev1alpha1.FieldState: o.state,
	} {
		if word != "" {
			set[field] = word
		}
	}
	return set.AsSelector().String()
}

func (o *connectionsOptions) print(list *livev1alpha1.ConnectionList) error {
	switch {
	case o.output.machine():
		list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("ConnectionList"))
		return o.output.encode(o.Out, list)
	case o.output.form == outputName:
		for _, c := range list.Items {
			fmt.Fprintln(o.Out, connectionPrefix+oneLine(c.Name))
		}
	case len(list.Items) == 0:
		fmt.Fprintf(o.ErrOut, "No connections%s.\n", o.scope.where())
	default:
		o.table(list.Items).write(o.Out)
	}
	return nil
}

func (o *connectionsOptions) table(items []livev1alpha1.Connection) *table {
	t := &table{columns: []string{"NAME", "POOL", "TARGET", "STATE", "IN USE", "USES", "IDLE", "RTT", "AGE"}}
	if o.all {
		t.columns = append([]string{"NAMESPACE"}, t.columns...)
	}
	if o.output.form == outputWide {
		t.columns = append(t.columns, "TYPE", "HANDSHAKE", "ADDRESS", "SERVER", "REPLICA")
	}
	for i := range items {
		t.add(o.row(&items[i])...)
	}
	return t
}

func (o *connectionsOptions) row(c *livev1alpha1.Connection) []string {
	now := o.now()
	idle := none
	if c.State == livev1alpha1.ConnectionIdle {
		idle = ago(cmp.Or(c.LastUsedTime, &c.CreationTimestamp), now)
	}
	cells := []string{
		c.Name, c.Pool, c.Target, string(c.State), strconv.Itoa(int(c.InUse)), strconv.FormatInt(c.UseCount, 10),
		idle, microsOrNone(c.RoundTripMicroseconds), ago(&c.CreationTimestamp, now),
	}
	if o.all {
		cells = append([]string{c.Namespace}, cells...)
	}
	if o.output.form == outputWide {
		cells = append(cells, c.Type, microsOrNone(c.HandshakeMicroseconds), c.RemoteAddress, c.ServerVersion, c.Replica)
	}
	return cells
}

func microsOrNone(n int64) string {
	if n == 0 {
		return none
	}
	return micros(n)
}
