package registry

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/list"
	"github.com/connpool/connpool/internal/registry/naming"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// connections is the REST storage of connections: get and list. It offers no watch,
// because connections change every second, and no delete, because the namespace
// controller would use it.
type connections struct {
	list.Table[*live.Connection]

	pools   Pools
	objects Objects
	replica string
}

func newConnections(pools Pools, objects Objects, replica string) *connections {
	return &connections{Table: connectionTable, pools: pools, objects: objects, replica: replica}
}

var (
	_ rest.Scoper               = (*connections)(nil)
	_ rest.SingularNameProvider = (*connections)(nil)
	_ rest.ShortNamesProvider   = (*connections)(nil)
	_ rest.CategoriesProvider   = (*connections)(nil)
	_ rest.Getter               = (*connections)(nil)
	_ rest.Lister               = (*connections)(nil)
)

func (*connections) New() runtime.Object { return &live.Connection{} }

func (*connections) Destroy() {}

func (*connections) NamespaceScoped() bool { return true }

func (*connections) GetSingularName() string { return "connection" }

func (*connections) ShortNames() []string { return []string{"cconn"} }

func (*connections) Categories() []string { return []string{"connpool"} }

func (*connections) NewList() runtime.Object { return &live.ConnectionList{} }

func (s *connections) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	c, ok := find(s.pools, request.NamespaceValue(ctx), name)
	if !ok {
		return nil, apierrors.NewNotFound(live.Resource("connections"), name)
	}
	connection := s.describe(c)
	if target, err := s.objects.Target(ctx, c.Target.Namespace, c.Target.Name); err == nil && string(target.UID) == c.Target.UID {
		connection.Labels = target.Labels
	}
	return &connection, nil
}

func (s *connections) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	wanted, err := list.Select(options, selectable)
	if err != nil {
		return nil, err
	}
	page, err := pageOf(options)
	if err != nil {
		return nil, err
	}
	labels, err := s.labels(ctx, namespace)
	if err != nil {
		return nil, err
	}
	items := []live.Connection{}
	for _, c := range s.pools.Connections(namespace) {
		connection := s.describe(c)
		connection.Labels = labels[types.UID(c.Target.UID)]
		if wanted.Matches(&connection) {
			items = append(items, connection)
		}
	}
	slices.SortFunc(items, compare)
	return page.cut(items), nil
}

// labels returns the labels of targets by UID.
func (s *connections) labels(ctx context.Context, namespace string) (map[types.UID]map[string]string, error) {
	targets, err := s.objects.Targets(ctx, namespace)
	if err != nil {
		return nil, refusal.Unread(err, "connectiontargets", "", "the targets, whose labels connections have,")
	}
	labels := make(map[types.UID]map[string]string, len(targets))
	for i := range targets {
		labels[targets[i].UID] = targets[i].Labels
	}
	return labels, nil
}

// describe returns a connection in the words of the API, but for its labels.
func (s *connections) describe(c poolset.Connection) live.Connection {
	id := naming.Of(c.Pool, c.Target, c.ID)
	connection := live.Connection{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Connection"},
		ObjectMeta: metav1.ObjectMeta{
			Name: id.Name, Namespace: c.Target.Namespace, UID: id.UID, CreationTimestamp: metav1.NewTime(c.Created),
		},
		Pool: c.Pool.Name, Target: c.Target.Name, Type: c.Type, State: stateOf(c.State),
		InUse: int32(c.Leases), UseCount: c.Uses,
		RoundTripMicroseconds: c.Info.RoundTrip.Microseconds(), HandshakeMicroseconds: c.Info.Handshake.Microseconds(),
		RemoteAddress: c.Info.RemoteAddress, ServerVersion: c.Info.ServerVersion, Replica: s.replica,
	}
	if c.LastUsed.After(c.Created) {
		connection.LastUsedTime = &metav1.Time{Time: c.LastUsed}
	}
	return connection
}

func stateOf(state connpool.State) live.ConnectionState {
	switch state {
	case connpool.Idle:
		return live.ConnectionIdle
	case connpool.Leased:
		return live.ConnectionInUse
	default:
		return live.ConnectionDraining
	}
}

// find returns the connection of that name in the namespace.
func find(pools Pools, namespace, name string) (poolset.Connection, bool) {
	for _, c := range pools.Connections(namespace) {
		if naming.Possible(c.Target.Name, name) && naming.Of(c.Pool, c.Target, c.ID).Name == name {
			return c, true
		}
	}
	return poolset.Connection{}, false
}
