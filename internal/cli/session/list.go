package session

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

type listOptions struct {
	*plugin.Factory
}

func newList(f *plugin.Factory) *cobra.Command {
	o := &listOptions{Factory: f}
	command := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List sessions, and why others have ended",
		Long: "List sessions. One that has ended stays in the list for some\n" +
			"minutes, with the reason.",
		Example: f.Examples("those of the namespace", "session list", "with their owners and places", "session list -A -o wide"),
		Args:    cobra.NoArgs,
		RunE:    f.LiveE(nil, nil, o.run),
	}
	plugin.RegisterAllNamespaces(f, command)
	f.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name, plugin.Wide)
	return command
}

func (o *listOptions) run(ctx context.Context, live *client.Client) error {
	list, err := live.Sessions(ctx, o.Namespace)
	if err != nil {
		return o.Cluster.Explain(ctx, err, cluster.AskedForSessions(o.Namespace, "get", "list"))
	}
	slices.SortFunc(list.Items, func(a, b livev1alpha1.Session) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Spec.Pool, b.Spec.Pool), strings.Compare(a.Name, b.Name))
	})
	list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("SessionList"))
	return o.PrintList(list, "sessions", prefix, cluster.Names(list.Items), func() { o.table(list.Items).Write(o.Out) })
}

func (o *listOptions) table(items []livev1alpha1.Session) *display.Table {
	t := &display.Table{Columns: []string{
		"NAMESPACE", "NAME", "POOL", "TARGET", "STATE", "COMMANDS", "LAST USED", "ENDS IN", "AGE", "PLACE", "OWNER", "CONNECTION", "WHY",
	}}
	t.ShowOnlyIf(o.AllNamespaces, "NAMESPACE")
	t.ShowOnlyIf(o.Output.Form == plugin.Wide, "PLACE", "OWNER", "CONNECTION", "WHY")
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
