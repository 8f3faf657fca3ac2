// Package status shows how pools are: their health, their connections, which
// targets fail, and what to do about that.
//
// Health is in the conditions of pools and targets, which the operator writes at once.
// Figures come from the live API, which has those of this moment. All three are asked
// for at the same time. A user who may not read targets still sees pools, and one who
// may not ask the live API sees the figures that the operator wrote last.
//
// Trade-off: a command line is a few large requests, however many pools there are.
package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/output"
	"github.com/connpool/connpool/internal/cli/plugin"
)

type options struct {
	*plugin.Factory
	list *output.Flags
	pool string
	// others are the targets that no pool selects, as the last look found them.
	others []targetReport
	// noted are the notes that have been printed. A watch prints each once.
	noted map[string]bool
}

// New returns the command status.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f, noted: map[string]bool{}}
	command := &cobra.Command{
		Use:   "status [POOL]",
		Short: "Show the state of pools, which targets fail, and what to do about it",
		Long: "Show the state of all pools of a namespace, or of one pool with its targets.\n\n" +
			"For each failing target it says why, since when, and what to do next. The figures are current if you may list\n" +
			"connections; otherwise they are from the status that the operator wrote last.",
		Example: f.Examples(
			"all pools of the namespace", "status",
			"one pool with its targets", "status web",
			"all pools of the cluster, and then what changes", "status -A -w",
			"for a program", "status web -o json",
			"pools with a label, those with the fewest warm connections first", "status -l team=front --sort-by .connections.warm"),
		Args:              plugin.Args(0, 1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.NamespacedE(o.complete, o.validate, o.run),
	}
	o.list = output.Register(f, command, "pools")
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	o.pool = plugin.First(args)
	return nil
}

func (o *options) validate() error {
	if o.pool != "" && o.list.Selector != "" {
		return errors.New("a name and --selector cannot be used together: the name selects one pool")
	}
	return nil
}

func (o *options) run(ctx context.Context) error {
	v := &view{
		out: o.Out, paint: display.PaintFor(o.Out), now: o.Now,
		wide: o.Output.Form == plugin.Wide, namespaces: o.AllNamespaces, noHeaders: o.list.HasTableOnly(),
	}
	list := &output.List[poolReport]{
		Flags: o.list, Kind: "pools", Prefix: "connectionpool." + v1alpha1.GroupName + "/",
		Columns: poolColumns, Colors: map[string]func(string) string{titleOfStatus: colorOf},
		Read: o.read,
		Wrap: o.wrap,
		Key: func(r *poolReport) types.NamespacedName {
			return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
		},
		Gone:  func(r *poolReport) { r.Ready, r.Status = false, "Deleted" },
		Below: func(reports []poolReport) { v.below(reports, o.others) },
	}
	if o.pool != "" {
		list.Single = v.page
	}
	return list.Show(ctx)
}

func (o *options) wrap(reports []poolReport) any {
	object := map[string]any{"pools": reports}
	if len(o.others) > 0 {
		object["otherTargets"] = o.others
	}
	return object
}

func (o *options) read(ctx context.Context) ([]poolReport, error) {
	found, err := o.gather(ctx)
	if err != nil {
		return nil, err
	}
	reports, selected := make([]poolReport, 0, len(found.pools)), map[types.UID]bool{}
	for i := range found.pools {
		members := cluster.TargetsOf(&found.pools[i], found.targets)
		for j := range members {
			selected[members[j].UID] = true
		}
		reports = append(reports, reportOf(&found.pools[i], members, found.counts))
	}
	o.others = nil
	if o.pool == "" && o.list.Selector == "" {
		o.others = othersOf(found.targets, selected)
	}
	return reports, nil
}

// othersOf returns the targets that no pool has selected, but for jump hosts that are
// as they should be.
func othersOf(targets []v1alpha1.ConnectionTarget, selected map[types.UID]bool) (others []targetReport) {
	for i := range targets {
		if selected[targets[i].UID] {
			continue
		}
		if other := reportOfTarget(&targets[i], ""); !other.isFine() {
			other.Namespace = targets[i].Namespace
			others = append(others, other)
		}
	}
	return others
}

// gathered is what the APIs say.
type gathered struct {
	pools   []v1alpha1.ConnectionPool
	targets []v1alpha1.ConnectionTarget
	// counts are nil if the live API does not say them.
	counts cluster.Counts
}

// gather asks for all at once. Without targets and counts there is still a status.
func (o *options) gather(ctx context.Context) (found gathered, err error) {
	objects, err := o.Cluster.Objects()
	if err != nil {
		return found, err
	}
	var group errgroup.Group
	group.Go(func() (err error) {
		found.pools, err = o.readPools(ctx, objects)
		return err
	})
	var targetsErr, countsErr error
	group.Go(func() error {
		found.targets, targetsErr = objects.Targets(ctx, o.Namespace)
		return nil
	})
	group.Go(func() error {
		found.counts, countsErr = o.readCounts(ctx)
		return nil
	})
	if err := group.Wait(); err != nil {
		return found, err
	}
	if targetsErr != nil {
		o.note(fmt.Errorf("details of targets are missing: %w",
			o.Cluster.Explain(ctx, targetsErr, cluster.AskedToList(cluster.Targets, o.Namespace))))
	}
	switch {
	case cluster.IsUnserved(countsErr):
		o.note(countsErr)
	case countsErr != nil && len(found.pools) > 0:
		o.noteStored(countsErr)
	}
	return found, nil
}

func (o *options) readPools(ctx context.Context, objects cluster.Objects) ([]v1alpha1.ConnectionPool, error) {
	if o.pool == "" {
		pools, err := objects.LabeledPools(ctx, o.Namespace, o.list.Selector)
		return pools, o.Cluster.Explain(ctx, err, cluster.AskedToList(cluster.Pools, o.Namespace))
	}
	pool, err := objects.Pool(ctx, o.Namespace, o.pool)
	if err != nil {
		return nil, o.Cluster.Explain(ctx, err, cluster.AskedToGet(cluster.Pools, o.Namespace, o.pool))
	}
	return []v1alpha1.ConnectionPool{*pool}, nil
}

func (o *options) readCounts(ctx context.Context) (cluster.Counts, error) {
	live, err := o.Cluster.Live(ctx)
	if err != nil {
		return nil, err
	}
	return cluster.LiveCounts(ctx, live, o.Namespace, o.pool)
}

// note prints an error that leaves something to show.
func (o *options) note(err error) {
	if !o.noted[err.Error()] {
		o.noted[err.Error()] = true
		exit.Print(o.ErrOut, err)
	}
}

// noteStored says that the figures are not of this moment, and why.
func (o *options) noteStored(err error) {
	why := err.Error()
	if apierrors.IsForbidden(err) {
		why = "you may not list connections in the API " + cluster.AskedForConnections(o.Namespace).Group
	}
	if text := "the figures are from the status that the operator wrote last, and may be 30 s old or older: " + why; !o.noted[text] {
		o.noted[text] = true
		exit.PrintNote(o.ErrOut, text)
	}
}
