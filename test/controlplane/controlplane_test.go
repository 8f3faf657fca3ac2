package controlplane

import (
	"os"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestAControlPlaneServesUntilItIsStopped(t *testing.T) {
	plane, err := Start(t.Context(), Options{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	if err := plane.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	admin, err := client.New(plane.Config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.List(t.Context(), &corev1.NamespaceList{}); err != nil {
		t.Errorf("the administrator lists namespaces: %v", err)
	}
	nobody, err := plane.User("nobody")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := client.New(nobody, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.List(t.Context(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		t.Errorf("somebody without a role lists Secrets: %v, want forbidden", err)
	}

	pids := []int{plane.etcd.Pid(), plane.apiserver.Pid()}
	plane.Stop()
	for _, pid := range pids {
		if process, err := os.FindProcess(pid); err == nil && process.Signal(syscall.Signal(0)) == nil {
			t.Errorf("process %d lives on", pid)
		}
	}
	if _, err := os.Stat(plane.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left behind: %v", err)
	}
}
