package plugin

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/places"
)

// CompletePlaces completes the flags of a command that name a container, a pod and the
// pod's namespace, as far as the command has them. The first argument is POOL[/TARGET].
func (f *Factory) CompletePlaces(command *cobra.Command) {
	for flag, list := range map[string]listPlaces{
		"container": listContainers, "pod": listPods, "pod-namespace": listPodNamespaces,
	} {
		if command.Flags().Lookup(flag) != nil {
			CompleteFlag(command, flag, f.placesOf(list))
		}
	}
}

// listPlaces lists what a target, or each of a pool's, has.
type listPlaces func(ctx context.Context, pool *client.Pool, target, pod, namespace string) ([]string, error)

func (f *Factory) placesOf(list listPlaces) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return Names(func(ctx context.Context, args []string) ([]string, error) {
			name, target := poolAndTarget(command, args)
			pool, err := f.livePool(ctx, name)
			if err != nil || name == "" {
				return nil, err
			}
			return list(ctx, pool, target, valueOf(command, "pod"), valueOf(command, "pod-namespace"))
		})(command, args, typed)
	}
}

// poolAndTarget reads POOL[/TARGET][:PATH] and --target.
func poolAndTarget(command *cobra.Command, args []string) (pool, target string) {
	first, _, _ := strings.Cut(First(args), ":")
	pool, target, _ = strings.Cut(first, "/")
	if flag, err := command.Flags().GetString("target"); target == "" && err == nil {
		target = flag
	}
	return pool, target
}

func valueOf(command *cobra.Command, flag string) string {
	if found := command.Flags().Lookup(flag); found != nil {
		return found.Value.String()
	}
	return ""
}

// livePool returns a pool of the namespace in the live API.
func (f *Factory) livePool(ctx context.Context, name string) (*client.Pool, error) {
	live, err := f.Cluster.Live(ctx)
	if err != nil {
		return nil, err
	}
	namespace, err := f.Cluster.Namespace()
	if err != nil {
		return nil, err
	}
	return live.Pool(namespace, name), nil
}

func listContainers(ctx context.Context, pool *client.Pool, target, pod, namespace string) ([]string, error) {
	if pod != "" {
		found, err := places.Find(ctx, pool, livev1alpha1.ListingSpec{Of: livev1alpha1.ListPods, Target: target, Namespace: namespace})
		return places.PodWords(found, func(p livev1alpha1.ListedPod) []string {
			if p.Name != pod {
				return nil
			}
			return p.Containers
		}), err
	}
	found, err := places.Find(ctx, pool, livev1alpha1.ListingSpec{Of: livev1alpha1.ListContainers, Target: target})
	return places.Containers(found), err
}

func listPods(ctx context.Context, pool *client.Pool, target, _, namespace string) ([]string, error) {
	found, err := places.Find(ctx, pool, livev1alpha1.ListingSpec{Of: livev1alpha1.ListPods, Target: target, Namespace: namespace})
	return places.PodWords(found, func(p livev1alpha1.ListedPod) []string { return []string{p.Name} }), err
}

// listPodNamespaces lists the namespaces in which pods run. Credentials for one namespace
// cannot tell.
func listPodNamespaces(ctx context.Context, pool *client.Pool, target, _, _ string) ([]string, error) {
	found, err := places.Find(ctx, pool, livev1alpha1.ListingSpec{
		Of: livev1alpha1.ListPods, Target: target, AllNamespaces: true, Limit: livev1alpha1.MaxListingLimit,
	})
	return places.PodWords(found, func(p livev1alpha1.ListedPod) []string { return []string{p.Namespace} }), err
}

// listTargets lists the targets of the pool that is the first argument, or all. A user who
// may not list targets may list those of a pool that they may use.
func (f *Factory) listTargets(ctx context.Context, args []string) ([]string, error) {
	objects, namespace, err := f.namespaced()
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(First(args), "/")
	names, err := objects.TargetNames(ctx, namespace, name)
	if err == nil || name == "" || !apierrors.IsForbidden(err) {
		return names, err
	}
	pool, err := f.livePool(ctx, name)
	if err != nil {
		return nil, err
	}
	return places.TargetNames(ctx, pool)
}
