package run

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/places"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/natural"
)

const podSelector = "pod-selector"

// place is where the command runs once: a target, or a container or pod of it.
type place struct {
	remote.Place

	target string
	// listed is the name of the container or pod if the target was asked for those.
	listed string
	// err says why it is not known what runs on the target.
	err error
}

// name is what the lines of the place are marked with.
func (p place) name() string {
	if p.listed == "" {
		return p.target
	}
	return p.target + "/" + p.listed
}

func namesOf(all []place) []string {
	names := make([]string, 0, len(all))
	for _, p := range all {
		names = append(names, p.name())
	}
	return names
}

// in adds where it was to a result, which knows the container if the operator chose it.
func (r result) in(p place) result {
	r.Target, r.Pod, r.Namespace, r.name = p.target, p.Pod, p.Namespace, p.name()
	if p.Container != "" {
		r.Container = p.Container
	}
	return r
}

// unlisted is the result of a target that has not said what runs on it.
func unlisted(err error) result {
	r := result{Outcome: livev1alpha1.OutcomeNotStarted, Message: exit.Words(err.Error()), err: err, isUnlisted: true}
	if cause, ok := apierrors.StatusCause(err, livev1alpha1.CauseReason); ok {
		r.Reason = cause.Message
	}
	return r
}

// completeListed reads what the targets are to be asked for. The namespace of pods is then
// part of that.
func (o *options) completeListed(command *cobra.Command) error {
	switch {
	case o.podSelector == "" && command.Flags().Changed(podSelector):
		return errors.New("--pod-selector is empty: say which labels the pods have, such as app=web")
	case o.allContainers && o.podSelector != "":
		return errors.New("--all-containers and --pod-selector exclude each other: with --pod-selector, -c names the container")
	case o.allContainers:
		o.listed = &livev1alpha1.ListingSpec{Of: livev1alpha1.ListContainers}
	case o.podSelector != "":
		o.listed = &livev1alpha1.ListingSpec{
			Of: livev1alpha1.ListPods, Selector: o.podSelector, Namespace: o.command.Place.Namespace,
		}
		o.command.Place.Namespace = ""
	default:
		return nil
	}
	o.listed.Limit = livev1alpha1.MaxListingLimit
	return nil
}

func (o *options) validateListed() error {
	if _, err := labels.Parse(o.podSelector); err != nil {
		return fmt.Errorf("--pod-selector: %w", err)
	}
	switch {
	case o.podSelector != "" && o.command.Place.Pod != "":
		return errors.New("--pod and --pod-selector exclude each other")
	case o.allContainers && !o.command.Place.IsTarget():
		return errors.New("--all-containers excludes --container and --pod, which name one")
	}
	return nil
}

// resolve finds the places. To name the targets needs no permission to list them.
func (o *options) resolve(ctx context.Context, pool *client.Pool) ([]place, error) {
	if o.listed != nil {
		return o.resolveListed(ctx, pool)
	}
	targets := o.targets
	if len(targets) == 0 {
		var err error
		if targets, err = o.members(ctx, pool); err != nil {
			return nil, err
		}
	}
	all := make([]place, 0, len(targets))
	for _, target := range targets {
		all = append(all, place{target: target, Place: o.command.Place})
	}
	return all, nil
}

// members returns the targets of the pool with the labels. A user who may not list targets
// may list those of a pool that they may use.
func (o *options) members(ctx context.Context, pool *client.Pool) (names []string, err error) {
	members, err := o.Cluster.Members(ctx, o.Namespace, o.command.Pool)
	if apierrors.IsForbidden(err) {
		return o.listedMembers(ctx, pool, err)
	}
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(t v1alpha1.ConnectionTarget) bool {
		return !o.labels.Matches(labels.Set(t.Labels))
	})
	return o.inOrder(cluster.Names(members))
}

// listedMembers asks the live API for the targets. If that is forbidden too, denied is the
// error, because it says what is missing.
func (o *options) listedMembers(ctx context.Context, pool *client.Pool, denied error) ([]string, error) {
	targets, err := places.Targets(ctx, pool, o.selector)
	switch {
	case apierrors.IsForbidden(err):
		return nil, denied
	case err != nil:
		return nil, o.Cluster.Explain(ctx, err, o.asked())
	}
	return o.inOrder(places.Names(targets))
}

// inOrder sorts targets as people count. None is an error.
func (o *options) inOrder(targets []string) ([]string, error) {
	switch {
	case len(targets) == 0 && o.selector != "":
		return nil, fmt.Errorf("no target of pool %s has the labels %s", o.command.Pool, o.selector)
	case len(targets) == 0:
		return nil, exit.Hint(fmt.Errorf("pool %s has no targets", o.command.Pool), "See why: %s status %s", o.Name, o.command.Pool)
	}
	slices.SortFunc(targets, natural.Compare)
	return targets, nil
}

// asked is the right to list what can be named.
func (o *options) asked() cluster.Asked {
	return cluster.AskedToCreate(cluster.Pools+"/exec", o.Namespace, o.command.Pool)
}

// resolveListed asks the targets for their containers or pods.
func (o *options) resolveListed(ctx context.Context, pool *client.Pool) (all []place, err error) {
	targets := o.targets
	if len(targets) == 0 {
		if targets, err = places.Fitting(ctx, pool, o.listed.Of, o.selector); err != nil {
			return nil, o.Cluster.Explain(ctx, err, o.asked())
		}
		if targets, err = o.inOrder(targets); err != nil {
			return nil, err
		}
	}
	for _, found := range places.On(ctx, pool, *o.listed, targets) {
		all = append(all, o.placesIn(found)...)
	}
	if len(all) == 0 {
		return nil, o.nothingRuns()
	}
	return all, nil
}

// placesIn returns what was found on a target, or one place that cannot be used: the command
// must not run in a part of what was asked for and say nothing.
func (o *options) placesIn(found places.Found) (all []place) {
	switch {
	case found.Err != nil:
		return []place{{target: found.Target, err: found.Err}}
	case found.Listing.Status.Truncated:
		err := fmt.Errorf("more than %d run on it, so not all can be found; choose fewer, or name them", livev1alpha1.MaxListingLimit)
		return []place{{target: found.Target, err: err}}
	}
	for _, container := range found.Listing.Status.Containers {
		all = append(all, place{target: found.Target, listed: container.Name, Place: remote.Place{Container: container.Name}})
	}
	for _, pod := range found.Listing.Status.Pods {
		in := remote.Place{Pod: pod.Name, Namespace: pod.Namespace, Container: o.command.Place.Container}
		all = append(all, place{target: found.Target, listed: pod.Name, Place: in})
	}
	slices.SortFunc(all, func(a, b place) int { return natural.Compare(a.listed, b.listed) })
	return all
}

func (o *options) nothingRuns() error {
	if o.allContainers {
		return exit.Hint(fmt.Errorf("no container runs on the targets of pool %s", o.command.Pool),
			"See those that have stopped: %s containers %s --all", o.Name, o.command.Pool)
	}
	return exit.Hint(fmt.Errorf("no pod with the labels %s runs on the targets of pool %s", o.podSelector, o.command.Pool),
		"See those of all namespaces: %s pods %s -A", o.Name, o.command.Pool)
}

// unit is what the command runs in once each, in the singular and the plural.
func (o *options) unit() (one, many string) {
	switch {
	case o.allContainers:
		return "container", "containers"
	case o.podSelector != "":
		return "pod", "pods"
	}
	return "target", "targets"
}
