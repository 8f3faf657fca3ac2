package feed

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/web/shown"
)

const (
	// deniedFor is how long a request is not repeated that RBAC has refused. Each
	// would be another line in the cluster's audit log.
	deniedFor = 30 * time.Second
	// staleAfter is how old an answer may be before the page says so.
	staleAfter = 5 * time.Second
)

// asking is one thing that is asked of the cluster, and how that went.
type asking struct {
	feed  *Feed
	asked cluster.Asked
	// store has the objects, if they are watched.
	store cache.Store

	mu sync.Mutex // guards what follows
	// answered is closed when there was an answer since the last beginning.
	answered chan struct{}
	// heard is when the cluster last answered well. It is that for as long as a
	// watch is open.
	heard time.Time
	// watching is how many watches are open.
	watching int
	// refused is why the last answer was none, and the next step.
	refused error
	failed  time.Time
}

func newAsking(f *Feed, asked cluster.Asked) *asking {
	return &asking{feed: f, asked: asked, store: cache.NewStore(cache.MetaNamespaceKeyFunc), answered: make(chan struct{})}
}

// begin forgets that there were answers before, so that the next page waits for new
// ones. Pages that wait already go on.
func (a *asking) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isAnswered() {
		a.answered = make(chan struct{})
	}
}

func (a *asking) isAnswered() bool {
	select {
	case <-a.answered:
		return true
	default:
		return false
	}
}

// answer lets pages go on that wait.
func (a *asking) answer() {
	if !a.isAnswered() {
		close(a.answered)
	}
}

// wait waits for an answer, be it good or bad.
func (a *asking) wait(ctx context.Context) {
	a.mu.Lock()
	answered := a.answered
	a.mu.Unlock()
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

// note remembers how a request has ended.
func (a *asking) note(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // no page asks any more
	}
	explained := a.feed.source.Cluster.Explain(ctx, err, a.asked)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.feed.now()
	a.refused = explained
	if err == nil {
		a.heard = now
	} else {
		a.failed = now
	}
	a.answer()
}

// denial returns the refusal that is not yet worth another request.
func (a *asking) denial() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if apierrors.IsForbidden(a.refused) && a.feed.now().Sub(a.failed) < deniedFor {
		return a.refused
	}
	return nil
}

// poll asks once, unless it was denied lately.
func (a *asking) poll(ctx context.Context, ask func() error) {
	if err := a.denial(); err != nil {
		a.noteDenied()
		return
	}
	a.note(ctx, ask())
}

// noteDenied answers from memory.
func (a *asking) noteDenied() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer()
}

// plainList is a list and watch of which the list comes first: it is answered from
// the memory of kube-apiserver.
type plainList struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported tells the Reflector to list before it watches.
func (plainList) IsWatchListSemanticsUnSupported() bool { return true }

// listWatch lists and watches the objects, and notes how that goes.
func (a *asking) listWatch(objects cluster.Objects) cache.ListerWatcher {
	plain := objects.ListWatch(a.asked.Resource, a.feed.namespace)
	return plainList{&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			if err := a.denial(); err != nil {
				a.noteDenied()
				return nil, err
			}
			list, err := plain.ListWithContext(ctx, options)
			if err != nil { // or Replace notes it, when the objects are there
				a.note(ctx, err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			if err := a.denial(); err != nil {
				return nil, err
			}
			opened, err := plain.WatchWithContext(ctx, options)
			a.note(ctx, err)
			if err != nil {
				return nil, err
			}
			return a.open(opened), nil
		},
	}}
}

// openWatch is a watch that counts as an answer while it is open.
type openWatch struct {
	watch.Interface

	asking *asking
	once   sync.Once
}

func (a *asking) open(opened watch.Interface) *openWatch {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watching++
	return &openWatch{Interface: opened, asking: a}
}

// Stop implements watch.Interface. The Reflector calls it however a watch ends.
func (w *openWatch) Stop() {
	w.once.Do(func() {
		w.asking.mu.Lock()
		defer w.asking.mu.Unlock()
		w.asking.watching--
		w.asking.heard = w.asking.feed.now()
	})
	w.Interface.Stop()
}

// hasHeard reports whether the cluster has ever answered well, and does not refuse now.
func (a *asking) hasHeard() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.heard.IsZero() && !apierrors.IsForbidden(a.refused)
}

// lastRefusal returns why the last answer was none, or nil.
func (a *asking) lastRefusal() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}

// report says on a page what cannot be read, and how old it is.
func (a *asking) report(page *shown.Page) {
	a.mu.Lock()
	defer a.mu.Unlock()
	denied := apierrors.IsForbidden(a.refused)
	switch now := a.feed.now(); {
	case a.refused == nil && a.heard.IsZero():
		page.Waiting = true
	case denied || a.watching > 0 || now.Sub(a.heard) < staleAfter:
	case page.Heard == 0 || a.heard.UnixMilli() < page.Heard:
		page.Heard = max(1, a.heard.UnixMilli())
	}
	if a.refused == nil {
		return
	}
	problem := shown.Problem{
		What: whatIs[a.asked.Resource], Denied: denied, Text: wordsOf(a.refused),
		Hint: display.Printable(exit.HintOf(a.refused)),
	}
	page.AddProblem(problem)
}

// wordsOf returns what an error says, without the request that the user did not type.
func wordsOf(err error) string {
	if asked, ok := errors.AsType[*url.Error](err); ok {
		if asked.Timeout() {
			return fmt.Sprintf("the cluster has not answered within %s", pollTimeout)
		}
		err = asked.Err
	}
	return display.OneLine(err.Error())
}

// whatIs names resources for people.
var whatIs = map[string]string{
	cluster.Pools: "pools", cluster.Targets: "targets", cluster.Connections: "connections", cluster.Sessions: "sessions",
}
