// Package history is the command history: who uses and has used the pools, for what, and
// how that ended. It asks the live API, which has in memory what the audit lines say.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
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
	pool, target string
	user, state  string
	since        time.Duration
	limit        int
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
			"everything that the operator remembers, for a program", "history -A --limit 0 -o json"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	plugin.RegisterAllNamespaces(f, command)
	f.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name, plugin.Wide)
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
	o.pool = plugin.First(args)
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
	uses, more, err := o.read(ctx, live)
	if err != nil {
		return o.Cluster.Explain(ctx, err, cluster.AskedForUses(o.Namespace))
	}
	uses.SetGroupVersionKind(livev1alpha1.GroupVersion.WithKind("UseList"))
	err = o.PrintList(uses, "uses", prefix, cluster.Names(uses.Items), func() { o.table(uses.Items).Write(o.Out) })
	if more && err == nil && !o.Output.IsMachine() {
		fmt.Fprintf(o.ErrOut, "There are more; --limit 0 shows all.\n")
	}
	return err
}

// read reads the newest uses, page by page. more reports whether there are others.
func (o *options) read(ctx context.Context, live *client.Client) (uses *livev1alpha1.UseList, more bool, err error) {
	uses = &livev1alpha1.UseList{Items: []livev1alpha1.Use{}}
	options := metav1.ListOptions{FieldSelector: o.fields(), Limit: perPage}
	for {
		page, err := live.Uses(ctx, o.Namespace, options)
		if err != nil {
			return nil, false, err
		}
		for i := range page.Items {
			if o.isTooOld(&page.Items[i]) {
				continue
			}
			if o.limit > 0 && len(uses.Items) == o.limit {
				return uses, true, nil
			}
			uses.Items = append(uses.Items, page.Items[i])
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return uses, false, nil
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

func (o *options) table(items []livev1alpha1.Use) *display.Table {
	t := &display.Table{Columns: []string{
		"NAMESPACE", "AGE", "USER", "POOL", "TARGET", "WHAT", "RESULT", "DURATION",
		"NAME", "CONNECTION", "ACQUIRED", "WAIT", "BYTES IN", "BYTES OUT", "REQUEST ID", "MESSAGE",
	}}
	t.ShowOnlyIf(o.AllNamespaces, "NAMESPACE")
	t.ShowOnlyIf(o.Output.Form == plugin.Wide, "NAME", "CONNECTION", "ACQUIRED", "WAIT", "BYTES IN", "BYTES OUT", "REQUEST ID", "MESSAGE")
	for i := range items {
		t.Add(o.row(&items[i])...)
	}
	return t
}

func (o *options) row(u *livev1alpha1.Use) []string {
	duration, wait := display.None, display.None
	if u.State != livev1alpha1.UseRefused {
		duration, wait = display.Micros(u.DurationMicroseconds), display.Micros(u.AcquireMicroseconds)
	}
	return []string{
		u.Namespace, display.Ago(&u.CreationTimestamp, o.Now()), u.User, u.Pool, u.Target, what(u), u.Result(), duration,
		u.Name, u.Connection, string(u.Acquired), wait,
		strconv.FormatInt(u.BytesIn, 10), strconv.FormatInt(u.BytesOut, 10), u.RequestID, u.Message,
	}
}

// maxWhat bounds the column WHAT, in characters.
const maxWhat = 60

// what says what was done, as far as the operator remembers it.
func what(u *livev1alpha1.Use) string {
	words := []string{string(u.Action)}
	switch {
	case len(u.Command) > 0:
		words = append(words, u.Command...)
	case u.Method != "":
		words = []string{u.Method, u.Path}
	case u.Host != "" || u.Socket != "":
		words = append(words, cmp.Or(u.Socket, u.Host))
	}
	for _, word := range [][2]string{{"pod", u.Pod}, {"container", u.Container}, {"session", u.Session}} {
		if word[1] != "" {
			words = append(words, "("+word[0]+" "+word[1]+")")
		}
	}
	text := []rune(display.OneLine(strings.Join(words, " ")))
	if len(text) > maxWhat {
		return string(text[:maxWhat-3]) + "..."
	}
	return string(text)
}
