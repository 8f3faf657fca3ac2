package cp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/cp/location"
	"github.com/connpool/connpool/internal/cli/cp/notes"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/places"
	"github.com/connpool/connpool/internal/natural"
)

// targetsAtOnce is how many targets get a copy at the same time, unless the user says it.
const targetsAtOnce = 10

// many are the targets of a copy that goes to several.
type many struct {
	all      bool
	names    []string
	selector string
	labels   labels.Selector
}

// asked reports whether a copy goes to several targets.
func (m *many) asked() bool { return m.all || len(m.names) > 0 || m.selector != "" }

func (m *many) validate(sources []location.Location, destination location.Location) (err error) {
	if !m.asked() {
		return nil
	}
	ways := 0
	for _, way := range []bool{m.all, len(m.names) > 0, m.selector != ""} {
		if way {
			ways++
		}
	}
	isStream := func(l location.Location) bool { return l.IsStream() }
	switch {
	case ways > 1:
		return errors.New("--all, --target and --selector exclude each other: say once to which targets the copy goes")
	case !destination.IsRemote():
		return errors.New("files come from one target at a time: name it, as POOL/TARGET:PATH")
	case destination.Target != "":
		return fmt.Errorf("%s names a target already: leave it out, or leave out --all, --target and --selector", destination)
	case slices.ContainsFunc(sources, isStream):
		return errors.New("standard input can be read once only: copy it to a file first, and that to the targets")
	}
	if m.labels, err = labels.Parse(m.selector); err != nil {
		return fmt.Errorf("--selector: %w", err)
	}
	return nil
}

// outcome is what became of the copy to one target.
type outcome struct {
	target string
	took   time.Duration
	err    error
}

// copyToMany copies to several targets at the same time. The failure of one does not stop the
// others.
func (o *options) copyToMany(ctx context.Context, pool *client.Pool) error {
	targets, err := o.chosen(ctx, pool)
	if err != nil {
		return err
	}
	engines := o.engines(ctx, pool)
	outcomes := make([]outcome, len(targets))
	var group errgroup.Group
	group.SetLimit(targetsAtOnce)
	if o.streams > 0 {
		group.SetLimit(o.streams)
	}
	var printing sync.Mutex
	for i, target := range targets {
		group.Go(func() error {
			began := time.Now()
			err := ctx.Err()
			if err == nil {
				err = o.copyToOne(ctx, pool, target, engines[target], &printing)
			}
			outcomes[i] = outcome{target, time.Since(began), err}
			return nil
		})
	}
	_ = group.Wait() // each has its own
	return o.sum(ctx, outcomes)
}

// copyToOne is the same copy to one target. What it says is marked with the target's name.
func (o *options) copyToOne(ctx context.Context, pool *client.Pool, target string, isEngine bool, printing *sync.Mutex) error {
	factory := *o.Factory
	said := &notes.Labeled{Printing: printing, Out: o.ErrOut, Label: target + ": "}
	defer said.Flush()
	factory.ErrOut = said
	one := &options{
		Factory: &factory, sources: slices.Clone(o.sources), destination: o.destination, place: o.place,
		recursive: o.recursive, times: o.times, quiet: o.quiet, resume: o.resume, verify: o.verify,
	}
	one.destination.Target = target
	err := one.copyWith(ctx, &way{options: one, pool: pool, target: target, engine: isEngine})
	if one.kept.Load() {
		o.kept.Store(true)
	}
	return err
}

// sum prints where the copy failed, and returns an error if it did anywhere.
func (o *options) sum(ctx context.Context, outcomes []outcome) error {
	t := &display.Table{Columns: []string{"TARGET", "TIME", "WHY"}}
	failed := 0
	for _, out := range outcomes {
		if out.err != nil {
			failed++
			t.Add(out.target, out.took.Round(time.Millisecond).String(), display.OneLine(exit.Words(out.err.Error())))
		}
	}
	all := display.Count(len(outcomes), "target", "targets")
	if failed == 0 {
		if !o.quiet {
			fmt.Fprintf(o.ErrOut, "copied to %s\n", all)
		}
		return nil
	}
	fmt.Fprintln(o.ErrOut)
	t.Write(o.ErrOut)
	err := fmt.Errorf("the copy failed on %d of %s", failed, all)
	if ctx.Err() != nil {
		return interrupted(err)
	}
	return o.withNextStep(err)
}

// chosen returns the targets that are meant, in the order of people. A user who may not list
// targets may list those of a pool that they may use.
func (o *options) chosen(ctx context.Context, pool *client.Pool) ([]string, error) {
	if len(o.many.names) > 0 {
		names := slices.Clone(o.many.names)
		slices.SortFunc(names, natural.Compare)
		return slices.Compact(names), nil
	}
	name := o.destination.Pool
	members, err := o.Cluster.Members(ctx, o.Namespace, name)
	others := func(t v1alpha1.ConnectionTarget) bool { return !o.many.labels.Matches(labels.Set(t.Labels)) }
	members = slices.DeleteFunc(members, others)
	names := cluster.Names(members)
	if apierrors.IsForbidden(err) {
		denied := err
		var listed []livev1alpha1.ListedTarget
		if listed, err = places.Targets(ctx, pool, o.many.selector); apierrors.IsForbidden(err) {
			return nil, denied
		}
		names = places.Names(listed)
	}
	switch {
	case err != nil:
		return nil, o.Cluster.Explain(ctx, err, cluster.AskedToCreate(cluster.Pools+"/exec", o.Namespace, name))
	case len(names) == 0 && o.many.selector != "":
		return nil, fmt.Errorf("no target of pool %s has the labels %s", name, o.many.selector)
	case len(names) == 0:
		return nil, exit.Hint(fmt.Errorf("pool %s has no targets", name), "See why: %s status %s", o.Name, name)
	}
	slices.SortFunc(names, natural.Compare)
	return names, nil
}

// engines returns which targets of a pool are Docker engines.
func (o *options) engines(ctx context.Context, pool *client.Pool) map[string]bool {
	engines := map[string]bool{}
	if !o.place.IsTarget() {
		return engines
	}
	all, _ := places.Targets(ctx, pool, "") // the answer of one that is none says why
	for _, t := range all {
		engines[t.Name] = t.Type == string(v1alpha1.TargetTypeDocker)
	}
	return engines
}
