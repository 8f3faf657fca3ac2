package status

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldOwner is the manager of statuses in server-side apply.
const fieldOwner = client.FieldOwner("connpool")

// conflictDelay is after what time to look again at an object that was created anew, or is
// being written by others.
const conflictDelay = time.Second

// Writer writes the statuses of one kind of object.
type Writer[S any] struct {
	Client   client.Client
	Recorder events.EventRecorder
	Pace     *Pace[S]
	// Conditions returns the conditions of a status.
	Conditions func(S) []metav1.Condition
	// IsAlike reports whether two statuses differ at most in what is not worth a write of
	// its own. Nil if every difference is.
	IsAlike func(last, next S) bool
	// IsNotable reports whether something besides the conditions changed that users
	// wait for.
	IsNotable func(last, next S) bool
	// IsArrival reports whether conditions changed only to say that what has not been
	// ready yet is on its way. Nil if that is never so.
	IsArrival func(last, next S) bool
}

// Write applies the next status if it is due, and records the events of the change.
// Otherwise it returns after what time to call it again; 0 means not before something
// changes. It is not an error if the object does not exist any more, or another one of
// that name does.
func (w *Writer[S]) Write(ctx context.Context, object client.Object, last, next S) (after time.Duration, err error) {
	if w.IsAlike != nil && w.IsAlike(last, next) {
		return 0, nil
	}
	now := time.Now()
	due, after := w.Pace.Due(now, object.GetUID(), next, w.urgency(last, next))
	if !due {
		return after, nil
	}
	configuration, err := w.configuration(object, next)
	if err != nil {
		return 0, err
	}
	if err := w.Client.Status().Apply(ctx, configuration, fieldOwner, client.ForceOwnership); err != nil {
		switch {
		case apierrors.IsNotFound(err):
			return 0, nil
		case apierrors.IsConflict(err):
			return conflictDelay, nil
		}
		return 0, fmt.Errorf("apply status: %w", err)
	}
	w.Pace.Wrote(now, object.GetUID(), next)
	for _, event := range Events(w.Conditions(last), w.Conditions(next)) {
		w.Recorder.Eventf(object, nil, event.Type, event.Reason, "Reconcile", "%s", event.Note)
	}
	return 0, nil
}

// configuration returns the apply configuration of the object with the status. It has
// the UID, so that the status is not written to a new object of the same name. Zeros
// that are set arrive, because optional scalars of a status are pointers.
func (w *Writer[S]) configuration(object client.Object, status S) (runtime.ApplyConfiguration, error) {
	kind, err := w.Client.GroupVersionKindFor(object)
	if err != nil {
		return nil, fmt.Errorf("find the kind: %w", err)
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	applied := &unstructured.Unstructured{Object: map[string]any{"status": fields}}
	applied.SetGroupVersionKind(kind)
	applied.SetNamespace(object.GetNamespace())
	applied.SetName(object.GetName())
	applied.SetUID(object.GetUID())
	return client.ApplyConfigurationFromUnstructured(applied), nil
}

func (w *Writer[S]) urgency(last, next S) Urgency {
	switch {
	case Changed(w.Conditions(last), w.Conditions(next)):
		if w.IsArrival != nil && w.IsArrival(last, next) {
			return Arrival
		}
		return Transition
	case Reworded(w.Conditions(last), w.Conditions(next)), w.IsNotable(last, next):
		return Notable
	}
	return Counters
}
