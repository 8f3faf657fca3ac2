package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/exit"
)

// Resources of the two APIs.
const (
	Pools       = "connectionpools"
	Targets     = "connectiontargets"
	Connections = "connections"
	Sessions    = "sessions"
	Uses        = "uses"
)

// The words for pools and for targets that kubectl takes before a name, and the shorter
// ones of this program.
var (
	poolKinds   = []string{"connectionpool", "connectionpools", "cpool", "pool"}
	targetKinds = []string{"connectiontarget", "connectiontargets", "ctarget", "target"}
)

// PoolName returns the name of a pool, also if its kind is before it, as `-o name` prints
// it: connectionpool.connpool.dev/web is web, as pool/web. A target may follow. A pool
// that itself has the name of a kind needs the kind before it: pool/pool/web-1.
func PoolName(typed string) string { return withoutKind(typed, poolKinds) }

// PoolAndTarget reads POOL[/TARGET]. A slash without a name behind it is an error: in a
// script it is a variable that is empty, and any target would be used in its place.
func PoolAndTarget(typed string) (pool, target string, err error) {
	pool, target, slash := strings.Cut(PoolName(typed), "/")
	if slash && target == "" {
		return "", "", fmt.Errorf("%q has no target behind the slash: write only %s for any of the pool", typed, pool)
	}
	return pool, target, nil
}

// TargetName returns the name of a target, also if its kind is before it.
func TargetName(typed string) string { return withoutKind(typed, targetKinds) }

func withoutKind(typed string, kinds []string) string {
	kind, bare, ok := strings.Cut(typed, "/")
	if ok && slices.Contains(kinds, strings.TrimSuffix(kind, "."+v1alpha1.GroupName)) {
		return bare
	}
	return typed
}

// Objects reads the declarative API.
type Objects struct {
	rest *rest.RESTClient
}

// Pools returns the pools of a namespace, or all if it is "".
func (o Objects) Pools(ctx context.Context, namespace string) ([]v1alpha1.ConnectionPool, error) {
	return o.LabeledPools(ctx, namespace, "")
}

// LabeledPools returns the pools that a label selector selects, of a namespace, or of
// all if it is "".
func (o Objects) LabeledPools(ctx context.Context, namespace, selector string) ([]v1alpha1.ConnectionPool, error) {
	var list v1alpha1.ConnectionPoolList
	request := o.rest.Get().NamespaceIfScoped(namespace, namespace != "").Resource(Pools)
	if selector != "" {
		request = request.Param("labelSelector", selector)
	}
	err := request.Do(ctx).Into(&list)
	return list.Items, err
}

// Pool returns one pool.
func (o Objects) Pool(ctx context.Context, namespace, name string) (*v1alpha1.ConnectionPool, error) {
	if name == "" {
		return nil, errors.New("the name of the pool is missing")
	}
	var pool v1alpha1.ConnectionPool
	err := o.rest.Get().Namespace(namespace).Resource(Pools).Name(name).Do(ctx).Into(&pool)
	return &pool, err
}

// Target returns one target.
func (o Objects) Target(ctx context.Context, name types.NamespacedName) (*v1alpha1.ConnectionTarget, error) {
	var target v1alpha1.ConnectionTarget
	err := o.rest.Get().Namespace(name.Namespace).Resource(Targets).Name(name.Name).Do(ctx).Into(&target)
	return &target, err
}

// Targets returns the targets of a namespace, or all if it is "".
func (o Objects) Targets(ctx context.Context, namespace string) ([]v1alpha1.ConnectionTarget, error) {
	var list v1alpha1.ConnectionTargetList
	err := o.rest.Get().NamespaceIfScoped(namespace, namespace != "").Resource(Targets).Do(ctx).Into(&list)
	return list.Items, err
}

// ListWatch lists and watches a resource of a namespace, or of all if it is "".
func (o Objects) ListWatch(resource, namespace string) *cache.ListWatch {
	return cache.NewListWatchFromClient(o.rest, resource, namespace, fields.Everything())
}

// TargetNames returns the names of the targets of a pool, or of all targets if
// the pool is "" or cannot be read.
func (o Objects) TargetNames(ctx context.Context, namespace, pool string) ([]string, error) {
	all, err := o.Targets(ctx, namespace)
	if err != nil || pool == "" {
		return Names(all), err
	}
	selecting, err := o.Pool(ctx, namespace, pool)
	if err != nil {
		return Names(all), nil //nolint:nilerr // any target is a better offer than no target
	}
	return Names(TargetsOf(selecting, all)), nil
}

// TargetsOf returns those of the given targets that a pool selects, by name.
func TargetsOf(pool *v1alpha1.ConnectionPool, all []v1alpha1.ConnectionTarget) []v1alpha1.ConnectionTarget {
	selects, _ := pool.Selector() // the pool's conditions say whether targetSelector is invalid
	var selected []v1alpha1.ConnectionTarget
	for _, target := range all {
		if selects(&target) {
			selected = append(selected, target)
		}
	}
	slices.SortFunc(selected, func(a, b v1alpha1.ConnectionTarget) int { return strings.Compare(a.Name, b.Name) })
	return selected
}

// Members returns the targets of a pool, and explains an error.
func (c *Cluster) Members(ctx context.Context, namespace, name string) ([]v1alpha1.ConnectionTarget, error) {
	objects, err := c.Objects()
	if err != nil {
		return nil, err
	}
	var (
		pool *v1alpha1.ConnectionPool
		all  []v1alpha1.ConnectionTarget
	)
	var group errgroup.Group
	group.Go(func() (err error) {
		pool, err = objects.Pool(ctx, namespace, name)
		return c.Explain(ctx, err, AskedToGet(Pools, namespace, name))
	})
	group.Go(func() (err error) {
		all, err = objects.Targets(ctx, namespace)
		return c.Explain(ctx, err, AskedToList(Targets, namespace))
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	members := TargetsOf(pool, all)
	if len(members) == 0 {
		return nil, exit.Hint(fmt.Errorf("pool %s has no targets", name), "See why: %s status %s", c.program, name)
	}
	return members, nil
}

// Names returns the names of objects.
func Names[T any, P interface {
	*T
	GetName() string
}](objects []T) []string {
	names := make([]string, 0, len(objects))
	for i := range objects {
		names = append(names, P(&objects[i]).GetName())
	}
	return names
}

// ConnectionsPerPage is how many connections one request asks for.
const ConnectionsPerPage = 500

// ConnectionStates are the states of a connection, in the order of their lives.
var ConnectionStates = []string{
	string(livev1alpha1.ConnectionIdle), string(livev1alpha1.ConnectionInUse), string(livev1alpha1.ConnectionDraining),
}

// AllConnections reads a list of connections page by page, to its end.
func AllConnections(
	ctx context.Context, live *client.Client, namespace string, options metav1.ListOptions,
) (*livev1alpha1.ConnectionList, error) {
	all := &livev1alpha1.ConnectionList{}
	options.Limit = ConnectionsPerPage
	for {
		page, err := live.Connections(ctx, namespace, options)
		if err != nil {
			return nil, err
		}
		all.Items, all.Counts = append(all.Items, page.Items...), append(all.Counts, page.Counts...)
		if options.Continue = page.Continue; options.Continue == "" {
			return all, nil
		}
	}
}

// SessionNames returns the names of the sessions that have not ended.
func SessionNames(ctx context.Context, live *client.Client, namespace string) ([]string, error) {
	list, err := live.Sessions(ctx, namespace)
	if err != nil {
		return nil, err
	}
	return Names(slices.DeleteFunc(list.Items, func(s livev1alpha1.Session) bool {
		return s.Status.State == livev1alpha1.SessionEnded
	})), nil
}
