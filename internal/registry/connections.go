package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/columns"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/list"
	"github.com/connpool/connpool/internal/registry/naming"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

// connections is the REST storage of connections: get and list. It offers no watch,
// because connections change every second, and no delete, because the namespace
// controller would use it.
type connections struct {
	list.Resource[*live.Connection]

	pools   *poolset.Set
	objects use.Objects
	replica string
}

var (
	_ rest.Getter = (*connections)(nil)
	_ rest.Lister = (*connections)(nil)
)

// Get implements rest.Getter.
func (s *connections) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	c, err := find(ctx, s.pools, name)
	if err != nil {
		return nil, err
	}
	connection := s.describe(c)
	if target, err := s.objects.Target(ctx, c.Target.Namespace, c.Target.Name); err == nil && string(target.UID) == c.Target.UID {
		connection.Labels = target.Labels
	}
	return &connection, nil
}

// List implements rest.Lister.
func (s *connections) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	wants, err := s.Select(options)
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
		if wants(&connection) {
			items = append(items, connection)
		}
	}
	slices.SortFunc(items, compare)
	cut := page.cut(items)
	if page.isFirst() && !selectsSingly(options) {
		cut.Counts = s.counts(namespace, labels, wants)
	}
	return cut, nil
}

// selectsSingly reports whether a list selects connections by what counts do not have.
func selectsSingly(options *metainternalversion.ListOptions) bool {
	if options == nil || options.FieldSelector == nil {
		return false
	}
	return slices.ContainsFunc(options.FieldSelector.Requirements(), func(r fields.Requirement) bool {
		return r.Field == live.FieldState || r.Field == "metadata.name"
	})
}

// counts returns the figures of each pool and target whose connections are wanted.
func (s *connections) counts(
	namespace string, labels map[types.UID]map[string]string, wants func(*live.Connection) bool,
) (all []live.ConnectionCounts) {
	for _, o := range s.pools.Snapshot() {
		member := live.Connection{Pool: o.Pool.Name, Target: o.Target.Name, Type: o.Type}
		member.Namespace, member.Labels = o.Pool.Namespace, labels[types.UID(o.Target.UID)]
		if (namespace == "" || o.Pool.Namespace == namespace) && wants(&member) {
			all = append(all, countsOf(o))
		}
	}
	slices.SortFunc(all, func(a, b live.ConnectionCounts) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pool, b.Pool), strings.Compare(a.Target, b.Target))
	})
	return all
}

func countsOf(o poolset.PoolObservation) live.ConnectionCounts {
	counts := live.ConnectionCounts{
		Namespace: o.Pool.Namespace, Pool: o.Pool.Name, Warm: int32(o.Warm()), InUse: int32(o.InUse),
		Dialing: int32(o.Dialing), Draining: int32(o.Draining), UseCount: o.Uses,
		OldestConnectionTime: timeOf(o.Oldest), LastUsedTime: timeOf(o.LastUsed),
	}
	if o.Departed {
		return counts
	}
	counts.Target = o.Target.Name
	if !o.Paused {
		counts.Desired = int32(o.MinWarm)
	}
	return counts
}

// timeOf returns nil for a time that never was.
func timeOf(at time.Time) *metav1.Time {
	if at.IsZero() {
		return nil
	}
	return &metav1.Time{Time: at}
}

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

// find returns the connection of that name in the namespace of a request.
func find(ctx context.Context, pools *poolset.Set, name string) (poolset.Connection, error) {
	for _, c := range pools.Connections(request.NamespaceValue(ctx)) {
		if naming.Possible(c.Target.Name, name) && naming.Of(c.Pool, c.Target, c.ID).Name == name {
			return c, nil
		}
	}
	return poolset.Connection{}, apierrors.NewNotFound(live.Resource("connections"), name)
}

var connectionResource = list.Resource[*live.Connection]{
	Singular: "connection", Plural: "connections", Short: []string{"cconn"},
	Object: &live.Connection{}, List: &live.ConnectionList{},
	Columns: columns.Connections,
	Fields: []list.Field[*live.Connection]{
		{Name: "metadata.name", Value: func(c *live.Connection) string { return c.Name }},
		{Name: "metadata.namespace", Value: func(c *live.Connection) string { return c.Namespace }},
		{Name: live.FieldPool, Value: func(c *live.Connection) string { return c.Pool }},
		{Name: live.FieldTarget, Value: func(c *live.Connection) string { return c.Target }},
		{Name: live.FieldType, Value: func(c *live.Connection) string { return c.Type }},
		{Name: live.FieldState, Value: func(c *live.Connection) string { return string(c.State) }},
	},
}

type page struct {
	// limit is how many items it may have; 0 for all.
	limit int
	// after has the namespace and the name of the page before's last item, its continue token.
	after live.Connection
}

func pageOf(options *metainternalversion.ListOptions) (page, error) {
	if options == nil {
		return page{}, nil
	}
	wanted := page{limit: int(max(0, options.Limit))}
	if options.Continue == "" {
		return wanted, nil
	}
	token, err := base64.RawURLEncoding.DecodeString(options.Continue)
	namespace, name, found := strings.Cut(string(token), "/")
	if err != nil || !found {
		return page{}, refusal.New(refusal.BadRequest, "continue: this is not a token of an earlier list; list from the beginning")
	}
	wanted.after.Namespace, wanted.after.Name = namespace, name
	return wanted, nil
}

// isFirst reports whether no page was before.
func (p page) isFirst() bool { return p.after.Name == "" }

func (p page) cut(items []live.Connection) *live.ConnectionList {
	at, found := slices.BinarySearchFunc(items, p.after, compare)
	if found {
		at++
	}
	items = items[at:]
	cut := &live.ConnectionList{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "ConnectionList"},
		Items:    items,
	}
	if p.limit == 0 || len(items) <= p.limit {
		return cut
	}
	cut.Items = items[:p.limit]
	last := cut.Items[p.limit-1]
	cut.Continue = base64.RawURLEncoding.EncodeToString([]byte(last.Namespace + "/" + last.Name))
	cut.RemainingItemCount = new(int64(len(items) - p.limit))
	return cut
}

func compare(a, b live.Connection) int { return list.Compare(&a, &b) }
