package cli

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
)

// sessionListOptions list sessions.
type sessionListOptions struct {
	*factory
	scope
	output output
}

// newSessionListCommand lists sessions.
func newSessionListCommand(f *factory) *cobra.Command {
	o := &sessionListOptions{factory: f}
	command := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the sessions that there are, and why others ended",
		Long: "List the sessions that there are. One that has ended stays in the list for some\n" +
			"minutes, with the reason.",
		Example: f.examples("those of the namespace", "session list", "with their owners and places", "session list -A -o wide"),
		Args:    cobra.NoArgs,
		RunE:    runs(o),
	}
	o.scope.register(command)
	o.output.register(command, outputJSON, outputYAML, outputName, outputWide)
	return command
}

func (o *sessionListOptions) complete(*cobra.Command, []string) error {
	return o.scope.complete(o.factory)
}

func (o *sessionListOptions) validate() error { return o.output.validate() }

func (o *sessionListOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	list, err := live.Sessions(ctx, o.scope.namespace)
	if err != nil {
		return o.explain(ctx, err, askedForSessions(o.scope.namespace, "get", "list"))
	}
	slices.SortFunc(list.Items, func(a, b livev1alpha1.Session) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Spec.Pool, b.Spec.Pool), strings.Compare(a.Name, b.Name))
	})
	return o.print(list)
}

func (o *sessionListOptions) print(list *livev1alpha1.SessionList) error {
	switch {
	case o.output.machine():
		list.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("SessionList"))
		return o.output.encode(o.Out, list)
	case o.output.form == outputName:
		for i := range list.Items {
			fmt.Fprintln(o.Out, sessionPrefix+oneLine(list.Items[i].Name))
		}
	case len(list.Items) == 0:
		fmt.Fprintf(o.ErrOut, "No sessions%s.\n", o.scope.where())
	default:
		o.table(list.Items).write(o.Out)
	}
	return nil
}

func (o *sessionListOptions) table(items []livev1alpha1.Session) *table {
	t := &table{columns: []string{"NAME", "POOL", "TARGET", "STATE", "COMMANDS", "LAST USED", "ENDS IN", "AGE"}}
	if o.all {
		t.columns = append([]string{"NAMESPACE"}, t.columns...)
	}
	if o.output.form == outputWide {
		t.columns = append(t.columns, "PLACE", "OWNER", "CONNECTION", "WHY")
	}
	for i := range items {
		t.add(o.row(&items[i])...)
	}
	return t
}

func (o *sessionListOptions) row(s *livev1alpha1.Session) []string {
	now, state := o.now(), string(s.Status.State)
	if s.Status.Reason != "" {
		state += ": " + s.Status.Reason
	}
	cells := []string{
		s.Name, s.Spec.Pool, cmp.Or(s.Status.Target, s.Spec.Target), state, strconv.FormatInt(s.Status.CommandCount, 10),
		ago(s.Status.LastUsedTime, now), endsIn(&s.Status, now), ago(&s.CreationTimestamp, now),
	}
	if o.all {
		cells = append([]string{s.Namespace}, cells...)
	}
	if o.output.form == outputWide {
		cells = append(cells, placeOf(&s.Spec), s.Status.Owner, s.Status.Connection, s.Status.Message)
	}
	return cells
}

// endsIn says how long a session may still live.
func endsIn(status *livev1alpha1.SessionStatus, now time.Time) string {
	if status.State == livev1alpha1.SessionEnded || status.ExpirationTime.IsZero() {
		return none
	}
	return duration.HumanDuration(max(0, status.ExpirationTime.Sub(now)))
}

// placeOf says where in its target a session runs.
func placeOf(spec *livev1alpha1.SessionSpec) string {
	var words []string
	for _, word := range [][2]string{{"namespace ", spec.Namespace}, {"pod ", spec.Pod}, {"container ", spec.Container}} {
		if word[1] != "" {
			words = append(words, word[0]+word[1])
		}
	}
	return strings.Join(words, ", ")
}
