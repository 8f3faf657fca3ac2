package integration

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// While an APIService has no server, Kubernetes' namespace controller deletes what is in a
// namespace, but not the namespace itself: it cannot know whether the missing server has
// objects there. That is so for every aggregated API, of all namespaces, and nothing that
// this API could answer before changes it. So the documents say how to go on.
func TestNamespacesAreDeletedOnceTheLiveAPIAnswersOrIsGone(t *testing.T) {
	ownControlPlane(t)
	kubeconfig := adminKubeconfig(t)
	operator := startOwnOperator(t, kubeconfig)
	startNamespaceController(t)
	eventually(t, time.Minute, "the live API answers", func() (bool, string) {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(live.GroupVersion.WithKind("SessionList"))
		err := env.client.List(t.Context(), list)
		return err == nil, errorText(err)
	})

	isRemoved(t, deleted(t, "while-it-answers"))
	operator.Stop(0)
	waiting := deleted(t, "while-it-is-away")
	isHeldByDiscovery(t, waiting)
	startOwnOperator(t, kubeconfig)
	isRemoved(t, waiting)
}

func TestNamespacesAreDeletedAfterTheAPIServiceIsDeleted(t *testing.T) {
	ownControlPlane(t) // no operator serves what is registered
	startNamespaceController(t)
	waiting := deleted(t, "while-it-is-away")
	isHeldByDiscovery(t, waiting)
	service := &unstructured.Unstructured{}
	service.SetAPIVersion("apiregistration.k8s.io/v1")
	service.SetKind("APIService")
	service.SetName("v1alpha1." + live.GroupName)
	remove(t, service)
	isRemoved(t, waiting)
}

// deleted makes a namespace without objects of ours and asks for its removal.
func deleted(t *testing.T, name string) *corev1.Namespace {
	t.Helper()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	create(t, space)
	remove(t, space)
	return space
}

func isRemoved(t *testing.T, space *corev1.Namespace) {
	t.Helper()
	start := time.Now()
	eventually(t, 3*time.Minute, "namespace "+space.Name+" is gone", func() (bool, string) {
		err := env.client.Get(t.Context(), client.ObjectKeyFromObject(space), space)
		return apierrors.IsNotFound(err), space.String()
	})
	t.Logf("namespace %s is gone after %s", space.Name, time.Since(start))
}

// isHeldByDiscovery expects that a namespace stays, and says that it is because of our API.
func isHeldByDiscovery(t *testing.T, space *corev1.Namespace) {
	t.Helper()
	eventually(t, 2*time.Minute, "namespace "+space.Name+" says why it stays", func() (bool, string) {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(space), space); err != nil {
			return false, err.Error()
		}
		for _, c := range space.Status.Conditions {
			if c.Type == corev1.NamespaceDeletionDiscoveryFailure && c.Status == corev1.ConditionTrue {
				t.Log(c.Message)
				return strings.Contains(c.Message, live.GroupName), c.Message
			}
		}
		return false, space.String()
	})
}
