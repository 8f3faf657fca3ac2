package fleet

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
)

const (
	namespaces = 5
	objects    = 4 // of each resource in each namespace
)

// resources are what changes, and is watched.
var resources = []schema.GroupVersionResource{
	{Version: "v1", Resource: "configmaps"},
	{Version: "v1", Resource: "secrets"},
	{Version: "v1", Resource: "serviceaccounts"},
	{Version: "v1", Resource: "limitranges"},
}

var kinds = map[string]string{
	"configmaps": "ConfigMap", "secrets": "Secret", "serviceaccounts": "ServiceAccount", "limitranges": "LimitRange",
}

// place is where a watcher looks.
type place struct {
	resource schema.GroupVersionResource
	space    string
}

// places are those of a test, which has namespaces of its own in the spoke.
func places(prefix string) (all []place) {
	for i := range namespaces {
		for _, resource := range resources {
			all = append(all, place{resource, fmt.Sprintf("%s-%d", prefix, i)})
		}
	}
	return all
}

// changes are those that were made in the spoke, by the place and the name of an object.
type changes struct {
	client dynamic.Interface
	places []place
	made   map[place]map[string]int
	total  int
}

func newChanges(t *testing.T, prefix string) *changes {
	t.Helper()
	config := rest.CopyConfig(env.spoke.Config)
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &changes{client: client, places: places(prefix), made: map[place]map[string]int{}}
	for _, at := range c.places {
		create(t, env.admin, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: at.space}})
		c.made[at] = map[string]int{}
		for i := range objects {
			c.change(t, at, fmt.Sprintf("object-%d", i))
		}
	}
	return c
}

// change makes the next step of an object. Each tenth step deletes it and makes it again.
func (c *changes) change(t *testing.T, at place, name string) {
	t.Helper()
	in := c.client.Resource(at.resource).Namespace(at.space)
	step := c.made[at][name] + 1
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kinds[at.resource.Resource]}}
	object.SetName(name)
	object.SetAnnotations(map[string]string{stepAnnotation: strconv.Itoa(step)})
	var err error
	if step > 1 && step%10 == 0 {
		err = in.Delete(t.Context(), name, metav1.DeleteOptions{})
	}
	switch {
	case err != nil:
	case step%10 == 0 || step == 1:
		_, err = in.Create(t.Context(), object, metav1.CreateOptions{})
	default:
		_, err = in.Update(t.Context(), object, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatalf("change %s %s/%s: %v", at.resource.Resource, at.space, name, err)
	}
	c.made[at][name] = step
	c.total++
}

// fleet is all watchers of a test.
type fleet struct {
	tally    *tally
	watchers []*watcher
	made     *changes
	wait     sync.WaitGroup
	stop     []func()
	ctx      context.Context //nolint:containedctx // that of the test
}

func newFleet(t *testing.T, config *rest.Config, made *changes, size int) *fleet {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &fleet{tally: &tally{watches: map[string]int{}, others: map[string]int{}}, made: made, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		f.wait.Wait()
	})
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, f.tally} })
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	all := made.places
	for i := range size {
		at := all[i%len(all)]
		w := &watcher{tally: f.tally, client: client, resource: at.resource, space: at.space, steps: map[string]int{}}
		if i%3 == 0 {
			w.timeout = time.Duration(4+i%20) * time.Second
		}
		f.watchers = append(f.watchers, w)
		f.stop = append(f.stop, nil)
		f.start(i)
	}
	return f
}

func (f *fleet) start(i int) {
	ctx, cancel := context.WithCancel(f.ctx)
	done, w := make(chan struct{}), f.watchers[i]
	f.stop[i] = func() {
		cancel()
		<-done
	}
	f.wait.Go(func() {
		defer close(done)
		w.run(ctx)
	})
}

// relist makes a watcher begin anew, as a controller does that has lost its place.
func (f *fleet) relist(i int) {
	f.stop[i]()
	f.start(i)
}

// behind returns how many changes the watchers have not seen.
func (f *fleet) behind() (n int) {
	for _, w := range f.watchers {
		n += w.behind(f.made.made[place{w.resource, w.space}])
	}
	return n
}

func (f *fleet) caughtUp(t *testing.T, bound time.Duration) {
	t.Helper()
	eventually(t, bound, "every watcher has seen every change", func(context.Context) (bool, string) {
		n := f.behind()
		return n == 0, fmt.Sprintf("%d changes are not seen; %s", n, f.tally)
	})
}

// keepChanging makes changes for so long, and calls what happens meanwhile at its time.
func (f *fleet) keepChanging(t *testing.T, bound time.Duration, meanwhile []happening) {
	t.Helper()
	ticker := time.NewTicker(time.Duration(float64(time.Second) / *rate))
	defer ticker.Stop()
	all, began, spoke := f.made.places, time.Now(), time.Now()
	for i := 0; time.Since(began) < bound; i++ {
		<-ticker.C
		at := all[i%len(all)]
		f.made.change(t, at, fmt.Sprintf("object-%d", i/len(all)%objects))
		if len(meanwhile) > 0 && time.Since(began) >= meanwhile[0].at {
			t.Logf("%s: %s", time.Since(began).Round(time.Second), meanwhile[0].name)
			meanwhile[0].happens(t)
			meanwhile = meanwhile[1:]
		}
		if time.Since(spoke) > time.Minute {
			spoke = time.Now()
			t.Logf("%s: %d changes; %s; the operator: %s", time.Since(began).Round(time.Second), f.made.total, f.tally, operatorUsage(t.Context()))
		}
	}
}

// happening is what befalls the watchers.
type happening struct {
	at      time.Duration
	name    string
	happens func(*testing.T)
}

// happenings are a rotation, relists and a restart, over and over in a long run.
func (f *fleet) happenings(m *managed, bound time.Duration) (all []happening) {
	period := min(bound, 4*time.Minute)
	for begin := time.Duration(0); begin+period <= bound; begin += period {
		all = append(all,
			happening{begin + period/4, "the token is replaced, and the old one revoked", m.rotate},
			happening{begin + period/2, "every seventh watcher begins anew", func(*testing.T) {
				for i := 0; i < len(f.watchers); i += 7 {
					f.relist(i)
				}
			}},
		)
		if (begin/period)%3 == 0 {
			all = append(all, happening{begin + period*3/4, "the operator restarts", restart})
		}
	}
	return all
}

// The watches of an account whose token is revoked end when the operator notices.
func TestWatchesGoOnWithAnotherAccount(t *testing.T) {
	m := manage(t, "succeeded", func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.Health.KeepaliveSeconds, spec.Health.TimeoutSeconds = new(int32(1)), new(int32(1))
	})
	made := newChanges(t, m.space)
	f := newFleet(t, m.manager(t), made, 20)
	f.caughtUp(t, time.Minute)
	opened := f.tally.opened()
	m.account = "successor"
	grantSpoke(t, m.account)
	m.rotate(t)
	eventually(t, time.Minute, "every watch is opened again", func(context.Context) (bool, string) {
		return f.tally.opened() >= opened+20, f.tally.String()
	})
	f.keepChanging(t, 2*time.Second, nil)
	f.caughtUp(t, time.Minute)
	f.tally.judge(t)
}

func TestWatchesThroughAPoolMissNoChange(t *testing.T) {
	m := manage(t, "watched")
	made := newChanges(t, m.space)
	idle := operatorUsage(t.Context())
	f := newFleet(t, m.manager(t), made, *watches)
	f.caughtUp(t, time.Minute)
	begin := operatorUsage(t.Context())
	f.keepChanging(t, *soak, f.happenings(m, *soak))
	f.caughtUp(t, time.Minute)
	t.Logf("%d watchers, %d changes; %s\nthe operator: idle %s; with the watchers %s; at the end %s",
		len(f.watchers), made.total, f.tally, idle, begin, operatorUsage(t.Context()))
	f.tally.judge(t)
}
