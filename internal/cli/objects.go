package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Resources of the two APIs.
const (
	pools    = "connectionpools"
	targets  = "connectiontargets"
	sessions = "sessions"
)

// objectClient reads the declarative API.
type objectClient struct {
	rest *rest.RESTClient
}

// pools are those of a namespace, or of all of them if it is "".
func (c objectClient) pools(ctx context.Context, namespace string) ([]v1alpha1.ConnectionPool, error) {
	var list v1alpha1.ConnectionPoolList
	err := c.rest.Get().NamespaceIfScoped(namespace, namespace != "").Resource(pools).Do(ctx).Into(&list)
	return list.Items, err
}

func (c objectClient) pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	if name == "" {
		return nil, errors.New("the pool has no name")
	}
	var pool v1alpha1.ConnectionPool
	err := c.rest.Get().Namespace(namespace).Resource(pools).Name(name).Do(ctx).Into(&pool)
	return &pool, err
}

func (c objectClient) target(ctx context.Context, name types.NamespacedName) (*v1alpha1.ConnectionTarget, error) {
	var target v1alpha1.ConnectionTarget
	err := c.rest.Get().Namespace(name.Namespace).Resource(targets).Name(name.Name).Do(ctx).Into(&target)
	return &target, err
}

// targets are those of a namespace, or of all of them if it is "".
func (c objectClient) targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	var list v1alpha1.ConnectionTargetList
	err := c.rest.Get().NamespaceIfScoped(namespace, namespace != "").Resource(targets).Do(ctx).Into(&list)
	return list.Items, err
}

// targetsOf are the targets that a pool selects, of those given, by name.
func targetsOf(pool *v1alpha1.ConnectionPool, all []v1alpha1.ConnectionTarget) []v1alpha1.ConnectionTarget {
	selects := selectorOf(pool)
	var selected []v1alpha1.ConnectionTarget
	for _, target := range all {
		if target.Namespace == pool.Namespace && selects(&target) {
			selected = append(selected, target)
		}
	}
	slices.SortFunc(selected, func(a, b v1alpha1.ConnectionTarget) int { return strings.Compare(a.Name, b.Name) })
	return selected
}

// members are the targets of a pool, asked for at the same time as the pool.
func (f *factory) members(ctx context.Context, namespace, name string) ([]v1alpha1.ConnectionTarget, error) {
	objects, err := f.objects()
	if err != nil {
		return nil, err
	}
	var (
		pool *v1alpha1.ConnectionPool
		all  []v1alpha1.ConnectionTarget
	)
	var group errgroup.Group
	group.Go(func() (err error) {
		pool, err = objects.pool(ctx, namespace, name)
		return f.explain(ctx, err, askedToGet(pools, namespace, name))
	})
	group.Go(func() (err error) {
		all, err = objects.targets(ctx, namespace)
		return f.explain(ctx, err, askedToList(targets, namespace))
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	members := targetsOf(pool, all)
	if len(members) == 0 {
		return nil, hinted(fmt.Errorf("pool %s has no targets", name), "See why: %s status %s", f.name, name)
	}
	return members, nil
}

func selectorOf(pool *v1alpha1.ConnectionPool) func(*v1alpha1.ConnectionTarget) bool {
	if ref := pool.Spec.TargetRef; ref != nil {
		return func(t *v1alpha1.ConnectionTarget) bool { return t.Name == ref.Name }
	}
	selector, err := metav1.LabelSelectorAsSelector(pool.Spec.TargetSelector)
	if err != nil {
		// The pool's conditions say what is wrong with it.
		selector = labels.Nothing()
	}
	return func(t *v1alpha1.ConnectionTarget) bool { return selector.Matches(labels.Set(t.Labels)) }
}

func poolNames(all []v1alpha1.ConnectionPool) []string {
	names := make([]string, 0, len(all))
	for _, pool := range all {
		names = append(names, pool.Name)
	}
	return names
}

func targetNames(all []v1alpha1.ConnectionTarget) []string {
	names := make([]string, 0, len(all))
	for _, target := range all {
		names = append(names, target.Name)
	}
	return names
}
