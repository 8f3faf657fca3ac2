package status

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// fieldOwner is the manager of statuses in server-side apply.
const fieldOwner = client.FieldOwner("connpool")

// Writer writes the statuses of one kind of object.
type Writer[S any] struct {
	Client   client.Client
	Recorder events.EventRecorder
	Pace     *Pace[S]
	// Conditions are those of a status.
	Conditions func(S) []metav1.Condition
	// Configuration is the object's apply configuration with the status. It must
	// carry the UID, so that the status does not end up in a namesake.
	Configuration func(object client.Object, status S) (runtime.ApplyConfiguration, error)
	// Warns reports a reason of Ready that deserves a warning.
	Warns func(reason string) bool
}

// Write applies the next status if it is due, and records an event if Ready has
// turned. Otherwise it returns after what time to ask again; 0 means not before
// something changes. An object that is gone is no error.
func (w *Writer[S]) Write(ctx context.Context, object client.Object, last, next S) (after time.Duration, err error) {
	now := time.Now()
	before, turned := w.Conditions(last), w.Conditions(next)
	due, after := w.Pace.Due(now, object.GetUID(), next, Turned(before, turned))
	if !due {
		return after, nil
	}
	configuration, err := w.Configuration(object, next)
	if err != nil {
		return 0, err
	}
	if err := w.Client.Status().Apply(ctx, configuration, fieldOwner, client.ForceOwnership); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return 0, nil
		}
		return 0, fmt.Errorf("apply status: %w", err)
	}
	w.Pace.Wrote(now, object.GetUID(), next)
	w.tell(object, meta.FindStatusCondition(before, v1alpha1.ConditionReady), meta.FindStatusCondition(turned, v1alpha1.ConditionReady))
	return 0, nil
}

// tell says what changed to what.
func (w *Writer[S]) tell(object client.Object, before, after *metav1.Condition) {
	was := "unknown"
	if before != nil {
		was = before.Reason
		if before.Status == after.Status && before.Reason == after.Reason {
			return
		}
	}
	kind := corev1.EventTypeNormal
	lost := before != nil && before.Status == metav1.ConditionTrue && after.Status != metav1.ConditionTrue
	if lost || w.Warns(after.Reason) {
		kind = corev1.EventTypeWarning
	}
	w.Recorder.Eventf(object, nil, kind, after.Reason, "Reconcile", "%s, was %s: %s", after.Reason, was, after.Message)
}

// Convert turns a status into its apply configuration, which has the same
// fields.
func Convert(status, configuration any) error {
	raw, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	if err := json.Unmarshal(raw, configuration); err != nil {
		return fmt.Errorf("decode status: %w", err)
	}
	return nil
}
