package watched

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// NewInformer makes an informer for a cache, such that objects that may not be read count
// as none until they may be. An informer that could read them once keeps what it knows.
func NewInformer(
	source cache.ListerWatcher, object runtime.Object, resync time.Duration, indexers cache.Indexers,
) cache.SharedIndexInformer {
	patient := &patientReader{source: cache.ToListerWatcherWithContext(source), period: reviewPeriod}
	return cache.NewSharedIndexInformer(patient, object, resync, indexers)
}

// patientReader reads objects, and waits for the permission to read them.
type patientReader struct {
	source cache.ListerWatcherWithContext
	period time.Duration // how often it asks whether it may read
	// permitted is set when it has read something.
	permitted atomic.Bool
}

var _ cache.ListerWatcherWithContext = (*patientReader)(nil)

// List implements cache.ListerWatcher.
func (r *patientReader) List(options metav1.ListOptions) (runtime.Object, error) {
	return r.ListWithContext(context.Background(), options)
}

// Watch implements cache.ListerWatcher.
func (r *patientReader) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return r.WatchWithContext(context.Background(), options)
}

// ListWithContext implements cache.ListerWithContext.
func (r *patientReader) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	found, err := r.source.ListWithContext(ctx, options)
	switch {
	case err == nil:
		r.permitted.Store(true)
		return found, nil
	case !r.waitsAfter(err):
		return nil, err
	}
	return &metav1.PartialObjectMetadataList{}, nil
}

// WatchWithContext implements cache.WatcherWithContext. Without the permission it returns a
// watch that ends as one whose version is too old, as soon as there is the permission: then
// the caller lists.
func (r *patientReader) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if options.ResourceVersion == "" && !ptr.Deref(options.SendInitialEvents, false) && !r.permitted.Load() {
		return r.waiting(ctx), nil
	}
	found, err := r.source.WatchWithContext(ctx, options)
	if err == nil {
		r.permitted.Store(true)
	}
	return found, err
}

// waitsAfter reports whether an error says that there is no permission yet.
func (r *patientReader) waitsAfter(err error) bool {
	return apierrors.IsForbidden(err) && !r.permitted.Load()
}

// waiting returns a watch without events, but for the one that ends it.
func (r *patientReader) waiting(ctx context.Context) watch.Interface {
	events := make(chan watch.Event)
	watching := watch.NewProxyWatcher(events)
	go func() {
		ticker := time.NewTicker(r.period)
		defer ticker.Stop()
		for {
			select {
			case <-watching.StopChan():
				return
			case <-ticker.C:
			}
			if !r.mayList(ctx) {
				continue
			}
			select {
			case events <- watch.Event{Type: watch.Error, Object: expired()}:
			case <-watching.StopChan():
			}
			close(events)
			return
		}
	}()
	return watching
}

func (r *patientReader) mayList(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	_, err := r.source.ListWithContext(ctx, metav1.ListOptions{Limit: 1})
	return err == nil
}

func expired() *metav1.Status {
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired,
		Message: "the permission to read has just been given",
	}
}
