// Package status shows how pools are: their health, their connections, which
// targets fail, and what to do about that.
//
// It reads the status that the operator has written into the objects, and asks
// for pools and targets at the same time. A user who may not read targets still
// sees pools.
//
// Trade-off: the numbers are as old as the last status that the operator wrote.
// The live ones are in the packages connections and top.
package status

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
)

type options struct {
	*plugin.Factory
	pool string
}

// New returns the command status.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "status [POOL]",
		Short: "Show how pools are, which targets fail, and what to do about it",
		Long: "Show how all pools of a namespace are, or one pool with its targets.\n\n" +
			"Of each failing target it says why, since when, and the next step.",
		Example: f.Examples(
			"all pools of the namespace", "status",
			"one pool with its targets", "status web",
			"all pools of the cluster", "status -A",
			"for a program", "status web -o json"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.NamespacedE(o.complete, nil, o.run),
	}
	plugin.RegisterAllNamespaces(f, command)
	f.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name, plugin.Wide)
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	o.pool = plugin.First(args)
	return nil
}

func (o *options) run(ctx context.Context) error {
	pools, targets, err := o.gather(ctx)
	if err != nil {
		return err
	}
	reports := make([]poolReport, 0, len(pools))
	for i := range pools {
		reports = append(reports, reportOf(&pools[i], cluster.TargetsOf(&pools[i], targets)))
	}
	return o.print(reports, cluster.Names(pools))
}

func (o *options) print(reports []poolReport, names []string) error {
	v := view{
		out: o.Out, paint: display.PaintFor(o.Out), now: o.Now(),
		wide: o.Output.Form == plugin.Wide, namespaces: o.AllNamespaces,
	}
	object, show := any(map[string]any{"pools": reports}), func() { v.all(reports) }
	if o.pool != "" {
		object, show = reports[0], func() { v.one(reports[0]) }
	}
	return o.PrintList(object, "pools", "connectionpool."+v1alpha1.GroupName+"/", names, show)
}

// gather asks for both at once. A user who may not read targets still sees pools.
func (o *options) gather(ctx context.Context) (pools []v1alpha1.ConnectionPool, targets []v1alpha1.ConnectionTarget, err error) {
	objects, err := o.Cluster.Objects()
	if err != nil {
		return nil, nil, err
	}
	var group errgroup.Group
	group.Go(func() (err error) {
		if o.pool == "" {
			pools, err = objects.Pools(ctx, o.Namespace)
			return o.Cluster.Explain(ctx, err, cluster.AskedToList(cluster.Pools, o.Namespace))
		}
		pool, err := objects.Pool(ctx, o.Namespace, o.pool)
		pools = []v1alpha1.ConnectionPool{*pool}
		return o.Cluster.Explain(ctx, err, cluster.AskedToGet(cluster.Pools, o.Namespace, o.pool))
	})
	var targetsErr error
	group.Go(func() error {
		targets, targetsErr = objects.Targets(ctx, o.Namespace)
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	if targetsErr != nil {
		exit.Print(o.ErrOut, fmt.Errorf("without details of targets: %w",
			o.Cluster.Explain(ctx, targetsErr, cluster.AskedToList(cluster.Targets, o.Namespace))))
	}
	return pools, targets, nil
}

// Words for the health of a pool or target, unless a condition has a better one.
const (
	healthReady    = "Ready"
	healthDegraded = "Degraded"
	healthUnknown  = "Unknown"
)

type poolReport struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Type      string `json:"type,omitempty"`
	// Health is Ready, Degraded, or the reason why the pool is not ready.
	Health  string       `json:"health"`
	Message string       `json:"message,omitempty"`
	Since   *metav1.Time `json:"since,omitempty"`

	Targets     v1alpha1.TargetCounts         `json:"targets,omitzero"`
	Connections v1alpha1.PoolConnectionCounts `json:"connections,omitzero"`
	UseCount    int64                         `json:"useCount"`
	Oldest      *metav1.Time                  `json:"oldestConnectionTime,omitempty"`
	LastUsed    *metav1.Time                  `json:"lastUsedTime,omitempty"`

	// Failing are the failing targets, the longest failing first.
	Failing []failure `json:"failingTargets,omitempty"`
	// Members are the pool's targets.
	Members []targetReport `json:"members,omitempty"`
}

type failure struct {
	Name   string       `json:"name"`
	Reason string       `json:"reason"`
	Since  *metav1.Time `json:"since,omitempty"`
	// Message says what happened and the next step.
	Message string `json:"message,omitempty"`
}

type targetReport struct {
	Name          string                    `json:"name"`
	Endpoint      string                    `json:"endpoint,omitempty"`
	Health        string                    `json:"health"`
	Ready         bool                      `json:"ready"`
	Since         *metav1.Time              `json:"since,omitempty"`
	Message       string                    `json:"message,omitempty"`
	ServerVersion string                    `json:"serverVersion,omitempty"`
	Replica       string                    `json:"replica,omitempty"`
	Connections   v1alpha1.ConnectionCounts `json:"connections,omitzero"`
	UseCount      int64                     `json:"useCount"`
	LastUsed      *metav1.Time              `json:"lastUsedTime,omitempty"`
	Conditions    []metav1.Condition        `json:"conditions,omitempty"`
}

func reportOf(pool *v1alpha1.ConnectionPool, members []v1alpha1.ConnectionTarget) poolReport {
	status := pool.Status
	report := poolReport{
		Name: pool.Name, Namespace: pool.Namespace, Type: string(ptr.Deref(status.Type, "")),
		Targets: status.Targets, Connections: status.Connections, UseCount: ptr.Deref(status.UseCount, 0),
		Oldest: status.OldestConnectionTime, LastUsed: status.LastUsedTime,
	}
	report.Health, report.Message, report.Since = health(status.Conditions)
	for i := range members {
		report.Members = append(report.Members, reportOfTarget(&members[i], pool.Name))
	}
	for _, f := range status.FailingTargets {
		report.Failing = append(report.Failing, failure{
			Name: f.Name, Reason: f.Reason, Since: f.Since, Message: report.messageOf(f.Name),
		})
	}
	return report
}

func (r *poolReport) messageOf(target string) string {
	for _, m := range r.Members {
		if m.Name == target {
			return m.Message
		}
	}
	return ""
}

// reportOfTarget reports a target with its numbers in one pool.
func reportOfTarget(target *v1alpha1.ConnectionTarget, pool string) targetReport {
	status := target.Status
	report := targetReport{
		Name: target.Name, Endpoint: ptr.Deref(status.Endpoint, ""), ServerVersion: ptr.Deref(status.ServerVersion, ""),
		Replica: ptr.Deref(status.Replica, ""), Conditions: status.Conditions,
	}
	report.Health, report.Message, report.Since = health(status.Conditions)
	report.Ready = report.Health == healthReady
	for _, p := range status.Pools {
		if p.Name == pool {
			report.Connections, report.UseCount, report.LastUsed = p.Connections, ptr.Deref(p.UseCount, 0), p.LastUsedTime
		}
	}
	return report
}

// health sums conditions up: a word, the reason, and since when.
func health(conditions []metav1.Condition) (word, message string, since *metav1.Time) {
	if degraded := meta.FindStatusCondition(conditions, v1alpha1.ConditionDegraded); degraded != nil &&
		degraded.Status == metav1.ConditionTrue && meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReady) {
		return healthDegraded, degraded.Message, &degraded.LastTransitionTime
	}
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		return healthUnknown, "The operator has not looked at it yet.", nil
	case ready.Status == metav1.ConditionTrue:
		return healthReady, ready.Message, &ready.LastTransitionTime
	default:
		return ready.Reason, ready.Message, &ready.LastTransitionTime
	}
}
