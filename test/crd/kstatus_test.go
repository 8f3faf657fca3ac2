package crd

import (
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	acv1alpha1 "github.com/connpool/connpool/client/applyconfiguration/api/v1alpha1"
)

// testWaiting checks what clients that wait by kstatus, such as Flux and Argo CD,
// see from the creation on, before the operator has written a status.
func testWaiting(t *testing.T, api client.Client) {
	stored := create(t, api, object(t, pool, nil))
	if got := waiting(t, api, client.ObjectKeyFromObject(stored)); got != status.InProgressStatus {
		t.Errorf("a new pool is %s, want %s", got, status.InProgressStatus)
	}

	now := metav1.Now()
	ready := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm, now)
	notReady := condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWarming, now)
	reconciling := condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWarming, now)
	stalled := condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAuthenticationFailed, now)
	steps := []struct {
		name   string
		status *acv1alpha1.ConnectionPoolStatusApplyConfiguration
		want   status.Status
	}{
		{"warming", acv1alpha1.ConnectionPoolStatus().WithConditions(notReady, reconciling), status.InProgressStatus},
		{"stalled", acv1alpha1.ConnectionPoolStatus().WithConditions(notReady, stalled), status.FailedStatus},
		{"ready", acv1alpha1.ConnectionPoolStatus().WithConditions(ready), status.CurrentStatus},
	}
	for _, step := range steps {
		applyStatus(t, api, acv1alpha1.ConnectionPool("web", "default").WithStatus(step.status.WithObservedGeneration(1)))
		if got := waiting(t, api, client.ObjectKeyFromObject(stored)); got != step.want {
			t.Errorf("a %s pool is %s, want %s", step.name, got, step.want)
		}
	}
}

func waiting(t *testing.T, api client.Client, key client.ObjectKey) status.Status {
	t.Helper()
	stored := object(t, pool, nil)
	if err := api.Get(t.Context(), key, stored); err != nil {
		t.Fatal(err)
	}
	result, err := status.Compute(stored)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status
}
