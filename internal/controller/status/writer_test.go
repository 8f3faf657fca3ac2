package status

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// An error of a reconciliation is one in the log.
func TestAnObjectThatWasDeletedOrCreatedAnewIsNoError(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	broken := errors.New("etcd is away")
	for name, tc := range map[string]struct {
		answer   error
		again    bool // whether it looks again by itself
		isFailed bool
	}{
		"it was deleted":       {apierrors.NewNotFound(pods, "p"), false, false},
		"it was created anew":  {apierrors.NewConflict(pods, "p", errors.New("the UID differs")), true, false},
		"it cannot be written": {broken, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			if err := corev1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			answering := interceptor.Funcs{SubResourceApply: func(
				context.Context, client.Client, string, runtime.ApplyConfiguration, ...client.SubResourceApplyOption,
			) error {
				return tc.answer
			}}
			w := Writer[corev1.PodStatus]{
				Client: fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(answering).Build(),
				Pace:   NewPace[corev1.PodStatus](NewBudget()),
				Conditions: func(s corev1.PodStatus) []metav1.Condition {
					return []metav1.Condition{is("Ready", true, s.Reason, "")}
				},
				IsNotable: func(_, _ corev1.PodStatus) bool { return true },
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"}}
			after, err := w.Write(t.Context(), pod, corev1.PodStatus{}, corev1.PodStatus{Reason: "New"})
			if (after > 0) != tc.again || errors.Is(err, broken) != tc.isFailed || (err != nil) != tc.isFailed {
				t.Errorf("looks again after %s, error %v", after, err)
			}
		})
	}
}
