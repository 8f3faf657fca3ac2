package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// stepAnnotation counts the changes of an object, from 1 on.
const stepAnnotation = "fleet.example.com/step"

// tally is what all watchers together have seen.
type tally struct {
	mu sync.Mutex
	// events are changes that came by a watch. replaced are those of which a watcher
	// learned only by a list, as the last state.
	events, lists, replaced int
	missed, repeated        []string
	// watches counts the requests for watches, by their status or error.
	watches map[string]int
	// others counts the other answers that are failures.
	others map[string]int
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%d events, %d lists with %d changes more, %d missed, %d repeated; watches opened: %s; other requests that failed: %s",
		t.events, t.lists, t.replaced, len(t.missed), len(t.repeated), counts(t.watches), counts(t.others))
}

// opened is how many watches were opened.
func (t *tally) opened() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.watches["200"]
}

// judge fails the test if a watcher has missed a change or got one twice.
func (t *tally) judge(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.missed) > 0 || len(t.repeated) > 0 {
		tb.Errorf("missed %v\nrepeated %v", t.missed, t.repeated)
	}
}

func counts(of map[string]int) string {
	if len(of) == 0 {
		return "none"
	}
	words := make([]string, 0, len(of))
	for _, key := range slices.Sorted(maps.Keys(of)) {
		words = append(words, fmt.Sprintf("%d× %s", of[key], key))
	}
	return strings.Join(words, ", ")
}

// counting counts the answers to a client.
type counting struct {
	http.RoundTripper

	tally *tally
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.RoundTripper.RoundTrip(r)
	what := "error"
	if err == nil {
		what = strconv.Itoa(answer.StatusCode)
		if answer.StatusCode >= http.StatusBadRequest {
			what += " " + reasonOf(answer)
		}
	}
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	switch {
	case r.Context().Err() != nil: // the watcher was stopped
	case r.URL.Query().Get("watch") != "":
		c.tally.watches[what]++
	case err != nil || answer.StatusCode >= http.StatusBadRequest:
		c.tally.others[what]++
	}
	return answer, err
}

// reasonOf returns what an answer says, which stays there to be read.
func reasonOf(answer *http.Response) string {
	text, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(text))
	var status metav1.Status
	if json.Unmarshal(text, &status) != nil {
		return fmt.Sprintf("of the hub's kube-apiserver (%.70s)", text)
	}
	by := "of the operator"
	if answer.Header.Get("Connpool-Target") != "" {
		by = "of the spoke"
	}
	return fmt.Sprintf("%s (%.60s)", by, status.Message)
}

// watcher is a cache of some objects. It has at most one reflector at a time.
type watcher struct {
	tally    *tally
	client   dynamic.Interface
	resource schema.GroupVersionResource
	space    string
	// timeout of each watch; that of the reflector, 5 to 10 minutes, when 0.
	timeout time.Duration

	mu    sync.Mutex
	steps map[string]int
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	objects := w.client.Resource(w.resource).Namespace(w.space)
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			if w.timeout > 0 {
				options.TimeoutSeconds = new(int64(w.timeout / time.Second))
			}
			return objects.Watch(ctx, options)
		},
	}
	cache.NewReflectorWithOptions(source, &unstructured.Unstructured{}, w, cache.ReflectorOptions{}).RunWithContext(ctx)
}

func stepOf(object any) (name string, step int) {
	of, err := meta.Accessor(object)
	if err != nil {
		return "", 0
	}
	step, _ = strconv.Atoi(of.GetAnnotations()[stepAnnotation])
	return of.GetName(), step
}

// see notes a change that came by a watch: the next one of its object.
func (w *watcher) see(object any) error {
	name, step := stepOf(object)
	if step == 0 {
		return nil // not one of ours
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.mu.Lock()
	defer w.tally.mu.Unlock()
	w.tally.events++
	what := fmt.Sprintf("%s %s/%s: %d after %d", w.resource.Resource, w.space, name, step, w.steps[name])
	switch last := w.steps[name]; {
	case step > last+1:
		w.tally.missed = append(w.tally.missed, what)
	case step <= last:
		w.tally.repeated = append(w.tally.repeated, what)
	}
	w.steps[name] = step
	return nil
}

// Add implements cache.ReflectorStore.
func (w *watcher) Add(object any) error { return w.see(object) }

// Update implements cache.ReflectorStore.
func (w *watcher) Update(object any) error { return w.see(object) }

// Delete implements cache.ReflectorStore. The object is as it was last.
func (w *watcher) Delete(any) error { return nil }

// Resync implements cache.ReflectorStore.
func (w *watcher) Resync() error { return nil }

// Replace implements cache.ReflectorStore. A list has the last state only, so it may skip
// changes, but must not go back.
func (w *watcher) Replace(objects []any, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.mu.Lock()
	defer w.tally.mu.Unlock()
	w.tally.lists++
	for _, object := range objects {
		name, step := stepOf(object)
		if step < w.steps[name] {
			w.tally.repeated = append(w.tally.repeated, fmt.Sprintf("list of %s %s/%s: %d after %d", w.resource.Resource, w.space, name, step, w.steps[name]))
		}
		if w.steps[name] > 0 {
			w.tally.replaced += step - w.steps[name]
		}
		w.steps[name] = step
	}
	return nil
}

// behind returns how many of the changes the watcher has not seen.
func (w *watcher) behind(made map[string]int) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, step := range made {
		n += step - w.steps[name]
	}
	return n
}
