package clitest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Change changes what the cluster holds while commands run, and tells those that watch.
// The change replaces what it changes, and does not write into objects.
func (f *Fixture) Change(change func()) {
	f.state.Lock()
	defer f.state.Unlock()
	change()
	f.version++
	close(f.changed)
	f.changed = make(chan struct{})
}

// AwaitWatches waits until n watches are open.
func (f *Fixture) AwaitWatches(n int) {
	f.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for f.watches.Load() != int32(n) {
		select {
		case <-tick.C:
		case <-f.t.Context().Done():
			f.t.Fatalf("%d watches are open, want %d", f.watches.Load(), n)
		}
	}
}

// object is a pointer to an API object that can be watched.
type object[T any] interface {
	*T
	named
	SetResourceVersion(version string)
	SetGroupVersionKind(kind schema.GroupVersionKind)
}

// serveKind answers with a list, one object, or a watch that sends every object after
// each change.
func serveKind[T any, P object[T]](a *api, out http.ResponseWriter, r *http.Request, all *[]T, kind, namespace, name string) {
	a.state.RLock()
	defer a.state.RUnlock()
	items := in[T, P](*all, namespace, name)
	switch {
	case r.URL.Query().Get("watch") == "true":
		watchKind[T, P](a, out, r, all, kind, namespace)
	case name == "":
		a.Answer(out, struct {
			metav1.TypeMeta `json:",inline"`
			metav1.ListMeta `json:"metadata"`

			Items []T `json:"items"`
		}{
			metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind + "List"},
			metav1.ListMeta{ResourceVersion: strconv.Itoa(a.version)},
			items,
		})
	case len(items) == 0:
		a.Refuse(out, notFound(resources[kind], name))
	default:
		a.Answer(out, items[0])
	}
}

// resources are those of kinds.
var resources = map[string]string{"ConnectionPool": "connectionpools", "ConnectionTarget": "connectiontargets"}

// watchKind sends events until the request ends. It gives the lock back while it waits.
func watchKind[T any, P object[T]](a *api, out http.ResponseWriter, r *http.Request, all *[]T, kind, namespace string) {
	a.watches.Add(1)
	defer a.watches.Add(-1)
	out.Header().Set("Content-Type", "application/json")
	seen, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for {
		if seen != a.version {
			seen = a.version
			sendAll[T, P](a, out, in[T, P](*all, namespace, ""), kind)
		}
		_ = http.NewResponseController(out).Flush()
		changed := a.changed
		a.state.RUnlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		a.state.RLock()
		if r.Context().Err() != nil {
			return
		}
	}
}

func sendAll[T any, P object[T]](a *api, out http.ResponseWriter, items []T, kind string) {
	encoder := json.NewEncoder(out)
	for i := range items {
		object := P(&items[i])
		object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
		object.SetResourceVersion(strconv.Itoa(a.version))
		if encoder.Encode(map[string]any{"type": watch.Modified, "object": object}) != nil {
			return // the client has left
		}
	}
}
