// Package feed keeps what the page of `connpool web` shows: pools, targets,
// connections and the uses that run, as the cluster has them now.
//
// A Feed asks with the rights of the caller, and only while pages ask it:
//
//	f := feed.New(feed.Source{Cluster: c, Objects: objects, Live: live}, "shop", time.Now)
//	go f.Run(ctx)
//	page := f.Look(ctx, shown.Choice{Namespace: "shop", Pool: "web", Target: "web-1"})
//
// Pools and targets are watched, so that a quiet cluster is asked once. The live
// API cannot be watched and is polled, at most once a second for all pages
// together, and more rarely where its answers take long. What the caller may not
// read is a Problem of the page, with the Role that would permit it; the rest is
// there. What cannot be read for now stays as it was, with its age.
//
// Trade-off: client-go's Reflector watches, which reads a whole list at the start,
// but knows all ways in which a watch ends.
package feed

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/web/shown"
)

const (
	// idleAfter is how long no page may ask before the cluster is not asked either.
	// A page asks every second while it is seen.
	idleAfter = 5 * time.Second
	// interval is the shortest time between two polls of the live API.
	interval = time.Second
	// shareOfTime is the part of the time, as 1/n, that polls may take, unless the pause
	// would be longer than longestPause.
	shareOfTime  = 4
	longestPause = 3 * time.Second
	// pollTimeout bounds one poll.
	pollTimeout = 10 * time.Second
	// firstAnswer is how long a page waits for the first answers of the cluster.
	firstAnswer = 2 * time.Second
)

// Source is the cluster that a feed asks.
type Source struct {
	Cluster *cluster.Cluster
	Objects cluster.Objects
	Live    *client.Client
}

// Feed is what the cluster has said so far.
type Feed struct {
	source    Source
	namespace string
	now       func() time.Time
	// wake holds a value when a page has asked.
	wake chan struct{}

	pools, targets, connections, sessions *asking
	// uses are asked for only about targets that pages have chosen.
	uses *asking

	mu sync.Mutex // guards what follows
	// follows says that the cluster is being asked.
	follows bool
	known   []livev1alpha1.Connection
	opened  []livev1alpha1.Session
	chosen  map[shown.Choice]*choice
	history *shown.History
}

// New returns a feed of a namespace, or of all if it is "". It asks for nothing
// before Run.
func New(source Source, namespace string, now func() time.Time) *Feed {
	f := &Feed{
		source: source, namespace: namespace, now: now, wake: make(chan struct{}, 1),
		history: shown.NewHistory(), chosen: map[shown.Choice]*choice{},
	}
	f.pools = newAsking(f, cluster.AskedToList(cluster.Pools, namespace))
	f.targets = newAsking(f, cluster.AskedToList(cluster.Targets, namespace))
	f.connections = newAsking(f, cluster.AskedForConnections(namespace))
	f.sessions = newAsking(f, cluster.AskedForSessions(namespace, "get", "list"))
	f.uses = newAsking(f, cluster.AskedForUses(namespace))
	// A watch is opened with the rights of a watch.
	f.pools.asked.Verbs = append(f.pools.asked.Verbs, "watch")
	f.targets.asked.Verbs = append(f.targets.asked.Verbs, "watch")
	return f
}

func (f *Feed) all() []*asking { return []*asking{f.pools, f.targets, f.connections, f.sessions} }

// Run asks the cluster while pages ask, until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	for {
		select {
		case <-f.wake:
			f.follow(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// follow asks the cluster until no page has asked for idleAfter.
func (f *Feed) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer f.rest()
	defer working.Wait()
	defer cancel()
	quiet := klog.NewContext(ctx, klog.Logger{}) // the page shows what fails
	working.Go(func() { f.reflector(f.pools, &v1alpha1.ConnectionPool{}).RunWithContext(quiet) })
	working.Go(func() { f.reflector(f.targets, &v1alpha1.ConnectionTarget{}).RunWithContext(quiet) })
	working.Go(func() { f.poll(ctx) })
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	for {
		select {
		case <-f.wake:
			idle.Reset(idleAfter)
		case <-idle.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// rest lets the next page wait for new answers.
func (f *Feed) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.follows = false
}

// Wake lets the cluster be asked, before a page that opens asks itself.
func (f *Feed) Wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.follows {
		for _, a := range f.all() {
			a.begin()
		}
	}
	f.follows = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// reflector keeps the store of a resource as the cluster has it.
func (f *Feed) reflector(a *asking, example any) *cache.Reflector {
	options := cache.ReflectorOptions{
		Name:    a.asked.Resource,
		Backoff: &wait.Backoff{Duration: interval, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 5 * time.Second},
	}
	return cache.NewReflectorWithOptions(a.listWatch(f.source.Objects), example, &mirror{a.store, a}, options)
}

// poll asks the live API again and again. A slow answer delays the next question.
func (f *Feed) poll(ctx context.Context) {
	for {
		began := time.Now()
		f.pollOnce(ctx)
		took := time.Since(began)
		timer := time.NewTimer(min(max(interval, shareOfTime*took)-took, longestPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (f *Feed) pollOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() {
		f.connections.poll(ctx, func() error {
			list, err := cluster.AllConnections(ctx, f.source.Live, f.namespace, metav1.ListOptions{})
			if err == nil {
				f.learn(list.Items)
			}
			return err
		})
	})
	both.Go(func() {
		f.sessions.poll(ctx, func() error {
			list, err := f.source.Live.Sessions(ctx, f.namespace)
			if err == nil {
				f.mu.Lock()
				f.opened = list.Items
				f.mu.Unlock()
			}
			return err
		})
	})
	both.Go(func() { f.pollUses(ctx) })
	both.Wait()
}

// learn takes in what the live API has said about connections.
func (f *Feed) learn(connections []livev1alpha1.Connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = connections
	f.history.Learn(f.now(), connections)
}

// Look returns what is known, with the details of one target if a page has chosen
// one. The first page waits a moment for the first answers.
func (f *Feed) Look(ctx context.Context, chosen shown.Choice) shown.Page {
	f.Wake()
	ctx, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	for _, a := range f.all() {
		a.wait(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	facts := shown.Facts{
		Pools: listed[*v1alpha1.ConnectionPool](f.pools.store), Targets: listed[*v1alpha1.ConnectionTarget](f.targets.store),
		Connections: f.known, Sessions: f.opened, History: f.history, HasConnections: f.connections.hasHeard(),
	}
	facts.Uses, facts.NoUses = f.usesOf(chosen)
	page := facts.Page(chosen)
	for _, a := range f.all() {
		a.report(&page)
	}
	return page
}

func listed[T any](store cache.Store) []T {
	objects := store.List()
	all := make([]T, 0, len(objects))
	for _, object := range objects {
		if typed, ok := object.(T); ok {
			all = append(all, typed)
		}
	}
	return all
}

// mirror is a store whose first content answers what was asked.
type mirror struct {
	cache.Store

	asking *asking
}

// Replace implements cache.ReflectorStore.
func (m *mirror) Replace(objects []any, version string) error {
	err := m.Store.Replace(objects, version)
	m.asking.note(context.Background(), err)
	return err
}
