package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// listOptions list sessions.
type listOptions struct {
	*plugin.Factory
	scope  plugin.Scope
	output plugin.Output
}

// newList returns the command session list.
func newList(f *plugin.Factory) *cobra.Command {
	o := &listOptions{Factory: f}
	command := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the sessions that there are, and why others ended",
		Long: "List the sessions that there are. One that has ended stays in the list for some\n" +
			"minutes, with the reason.",
		Example: f.Examples("those of the namespace", "session list", "with their owners and places", "session list -A -o wide"),
		Args:    cobra.NoArgs,
		RunE:    plugin.RunE(o.complete, o.output.Validate, o.run),
	}
	o.scope.Register(command)
	o.output.Register(command, plugin.JSON, plugin.YAML, plugin.Name, plugin.Wide)
	return command
}

func (o *listOptions) complete(_ *cobra.Command, args []string) error {
	_, err := o.scope.Complete(o.Factory, args)
	return err
}

func (o *listOptions) run(ctx context.Context) error {
	live, err := o.Cluster.Live()
	if err != nil {
		return err
	}
	list, err := live.Sessions(ctx, o.scope.Namespace)
	if err != nil {
		return o.Cluster.Explain(ctx, err, cluster.AskedForSessions(o.scope.Namespace, "get", "list"))
	}
	slices.SortFunc(list.Items, func(a, b livev1alpha1.Session) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Spec.Pool, b.Spec.Pool), strings.Compare(a.Name, b.Name))
	})
	return o.print(list)
}

func (o *listOptions) print(list *livev1alpha1.SessionList) error {
	switch {
	case o.output.IsMachine():
		list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("SessionList"))
		return o.output.Encode(o.Out, list)
	case o.output.Form == plugin.Name:
		for i := range list.Items {
			fmt.Fprintln(o.Out, prefix+display.OneLine(list.Items[i].Name))
		}
	case len(list.Items) == 0:
		fmt.Fprintf(o.ErrOut, "No sessions%s.\n", o.scope.Where())
	default:
		o.table(list.Items).Write(o.Out)
	}
	return nil
}

func (o *listOptions) table(items []livev1alpha1.Session) *display.Table {
	t := &display.Table{Columns: []string{
		"NAMESPACE", "NAME", "POOL", "TARGET", "STATE", "COMMANDS", "LAST USED", "ENDS IN", "AGE", "PLACE", "OWNER", "CONNECTION", "WHY",
	}}
	t.ShowOnlyIf(o.scope.All, "NAMESPACE")
	t.ShowOnlyIf(o.output.Form == plugin.Wide, "PLACE", "OWNER", "CONNECTION", "WHY")
	for i := range items {
		t.Add(o.row(&items[i])...)
	}
	return t
}

func (o *listOptions) row(s *livev1alpha1.Session) []string {
	now, state := o.Now(), string(s.Status.State)
	if s.Status.Reason != "" {
		state += ": " + s.Status.Reason
	}
	return []string{
		s.Namespace, s.Name, s.Spec.Pool, cmp.Or(s.Status.Target, s.Spec.Target), state, strconv.FormatInt(s.Status.CommandCount, 10),
		display.Ago(s.Status.LastUsedTime, now), endsIn(&s.Status, now), display.Ago(&s.CreationTimestamp, now),
		placeOf(&s.Spec), s.Status.Owner, s.Status.Connection, s.Status.Message,
	}
}

// endsIn formats how long a session may still live.
func endsIn(status *livev1alpha1.SessionStatus, now time.Time) string {
	if status.State == livev1alpha1.SessionEnded || status.ExpirationTime.IsZero() {
		return display.None
	}
	return duration.HumanDuration(max(0, status.ExpirationTime.Sub(now)))
}

// placeOf formats the place in its target where a session runs.
func placeOf(spec *livev1alpha1.SessionSpec) string {
	var words []string
	for _, word := range [][2]string{{"namespace ", spec.Namespace}, {"pod ", spec.Pod}, {"container ", spec.Container}} {
		if word[1] != "" {
			words = append(words, word[0]+word[1])
		}
	}
	return strings.Join(words, ", ")
}
