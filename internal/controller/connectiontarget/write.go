package connectiontarget

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	applyv1alpha1 "github.com/connpool/connpool/client/applyconfiguration/api/v1alpha1"
)

// fieldOwner is the manager of the status in server-side apply.
const fieldOwner = client.FieldOwner("connpool")

// apply writes the status by server-side apply. The UID makes sure that it does
// not end up in a namesake.
func (r *Reconciler) apply(ctx context.Context, target *v1alpha1.ConnectionTarget, status v1alpha1.ConnectionTargetStatus) error {
	raw, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	applied := applyv1alpha1.ConnectionTargetStatus()
	if err := json.Unmarshal(raw, applied); err != nil {
		return fmt.Errorf("decode status: %w", err)
	}
	object := applyv1alpha1.ConnectionTarget(target.Name, target.Namespace).WithUID(target.UID).WithStatus(applied)
	if err := r.Client.Status().Apply(ctx, object, fieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply status: %w", err)
	}
	return nil
}

// tell records an event when Ready has turned.
func (r *Reconciler) tell(target *v1alpha1.ConnectionTarget, before, after *metav1.Condition) {
	if before != nil && before.Status == after.Status && before.Reason == after.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if after.Status == metav1.ConditionFalse && before != nil && before.Status == metav1.ConditionTrue || stalls(after.Reason) {
		kind = corev1.EventTypeWarning
	}
	was := "unknown"
	if before != nil {
		was = before.Reason
	}
	r.Recorder.Eventf(target, nil, kind, after.Reason, "Reconcile", "%s, was %s: %s", after.Reason, was, after.Message)
}

// uids remembers which object had a name, since an object that is gone cannot
// tell.
type uids struct {
	mu    sync.Mutex
	known map[types.NamespacedName]types.UID
}

// replace remembers the UID, or forgets the name when it is empty, and returns
// the UID of an earlier object of that name.
func (u *uids) replace(name types.NamespacedName, uid types.UID) types.UID {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known == nil {
		u.known = map[types.NamespacedName]types.UID{}
	}
	previous := u.known[name]
	if uid == "" {
		delete(u.known, name)
	} else {
		u.known[name] = uid
	}
	if previous == uid {
		return ""
	}
	return previous
}
