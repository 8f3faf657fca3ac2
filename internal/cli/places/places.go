// Package places finds what a command through a pool can name: the targets of the pool,
// their containers and pods. It needs the right to exec, and no other.
//
//	found, err := places.Find(ctx, pool, livev1alpha1.ListingSpec{Of: livev1alpha1.ListContainers})
//
// Trade-off: without a target there is one request for each that fits, so a pool of many
// engines takes a while.
package places

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

// parallel is how many targets are asked at the same time. The operator lets a user hold
// a few long lists.
const parallel = 4

// Found is what one target has, or why that is not known.
type Found struct {
	Target  string
	Listing *livev1alpha1.Listing
	Err     error
}

// typeOf is the type of target that has what a listing is of.
var typeOf = map[livev1alpha1.ListingOf]v1alpha1.TargetType{
	livev1alpha1.ListContainers: v1alpha1.TargetTypeDocker, livev1alpha1.ListPods: v1alpha1.TargetTypeKubernetes,
}

// Find lists the containers or pods of a target, or without one of all targets of the pool
// that have any, by name. The error is about the pool; each target has its own.
func Find(ctx context.Context, pool *client.Pool, spec livev1alpha1.ListingSpec) ([]Found, error) {
	if spec.Target != "" || spec.Of == livev1alpha1.ListTargets {
		listing, err := pool.List(ctx, spec)
		return []Found{{Target: spec.Target, Listing: listing, Err: err}}, err
	}
	targets, err := Fitting(ctx, pool, spec.Of, "")
	if err != nil {
		return nil, err
	}
	return On(ctx, pool, spec, targets), nil
}

// On lists the containers or pods of each of the targets.
func On(ctx context.Context, pool *client.Pool, spec livev1alpha1.ListingSpec, targets []string) []Found {
	found := make([]Found, len(targets))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, target := range targets {
		group.Go(func() error {
			asked := spec
			asked.Target = target
			listing, err := pool.List(ctx, asked)
			found[i] = Found{Target: target, Listing: listing, Err: err}
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	return found
}

// Fitting returns the targets of the pool that have what is listed, and the labels of
// the selector, if it is not "".
func Fitting(ctx context.Context, pool *client.Pool, of livev1alpha1.ListingOf, selector string) ([]string, error) {
	all, err := Targets(ctx, pool, selector)
	if err != nil {
		return nil, err
	}
	fits := slices.DeleteFunc(slices.Clone(all), func(t livev1alpha1.ListedTarget) bool { return t.Type != string(typeOf[of]) })
	if len(fits) == 0 && len(all) > 0 {
		with := map[bool]string{true: " with the labels " + selector}[selector != ""]
		return nil, fmt.Errorf("the pool has no target of type %s%s, and only those have %s",
			typeOf[of], with, strings.ToLower(string(of)))
	}
	return Names(fits), nil
}

// Targets returns the targets of the pool that have the labels; "" selects all.
func Targets(ctx context.Context, pool *client.Pool, selector string) ([]livev1alpha1.ListedTarget, error) {
	listing, err := pool.List(ctx, livev1alpha1.ListingSpec{
		Of: livev1alpha1.ListTargets, Selector: selector, Limit: livev1alpha1.MaxListingLimit,
	})
	if err != nil {
		return nil, err
	}
	if listing.Status.Truncated {
		return nil, errors.New("the pool has more targets than can be listed; select some by their labels, or name them")
	}
	return listing.Status.Targets, nil
}

// TargetNames returns the names of the pool's targets.
func TargetNames(ctx context.Context, pool *client.Pool) ([]string, error) {
	all, err := Targets(ctx, pool, "")
	return Names(all), err
}

// Names returns the names of targets.
func Names(targets []livev1alpha1.ListedTarget) []string {
	names := make([]string, 0, len(targets))
	for _, target := range targets {
		names = append(names, target.Name)
	}
	return names
}

// Containers returns the names of the containers that run on any of the targets, once each.
func Containers(found []Found) (names []string) {
	for _, f := range found {
		if f.Err == nil {
			for _, c := range f.Listing.Status.Containers {
				names = append(names, c.Name)
			}
		}
	}
	return compacted(names)
}

// Pods returns the pods of all targets.
func Pods(found []Found) (pods []livev1alpha1.ListedPod) {
	for _, f := range found {
		if f.Err == nil {
			pods = append(pods, f.Listing.Status.Pods...)
		}
	}
	return pods
}

// PodWords returns a word about each pod, once each.
func PodWords(found []Found, words func(livev1alpha1.ListedPod) []string) (all []string) {
	for _, pod := range Pods(found) {
		all = append(all, words(pod)...)
	}
	return compacted(all)
}

func compacted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
