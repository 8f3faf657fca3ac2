package controlplane

import (
	"os"
	"strings"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/controlplane/binaries"
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
	config, err := plane.User("powerless")
	if err != nil {
		t.Fatal(err)
	}
	powerless, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := powerless.List(t.Context(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		t.Errorf("a user without a role lists Secrets: %v, want forbidden", err)
	}
	worker, err := plane.ServiceAccount(t.Context(), "default", "worker")
	if err != nil {
		t.Fatal(err)
	}
	if got := whoIs(t, worker); got != "system:serviceaccount:default:worker" {
		t.Errorf("the ServiceAccount is %q", got)
	}

	pids := []int{plane.etcd.Pid(), plane.apiserver.Pid()}
	select {
	case <-plane.Failed():
		t.Error(plane.Err())
	default:
	}
	plane.Stop()
	<-plane.Failed()
	for _, pid := range pids {
		if process, err := os.FindProcess(pid); err == nil && process.Signal(syscall.Signal(0)) == nil {
			t.Errorf("process %d lives on", pid)
		}
	}
	if _, err := os.Stat(plane.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left behind: %v", err)
	}
}

// A run against another minor version of Kubernetes must not test the usual one.
func TestTheAPIServerHasTheMinorVersionThatWasChosen(t *testing.T) {
	want, err := binaries.Kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	plane, err := Start(t.Context(), Options{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	asked, err := discovery.NewDiscoveryClientForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	got, err := asked.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if minor := "v" + got.Major + "." + got.Minor + "."; !strings.HasPrefix(want, minor) {
		t.Errorf("the API server is %s, want %s", got.GitVersion, want)
	}
	t.Logf("tested with Kubernetes %s", got.GitVersion)
}

// whoIs returns the user name that the API server knows for a client.
func whoIs(t *testing.T, config *rest.Config) string {
	t.Helper()
	api, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	review := &authenticationv1.SelfSubjectReview{}
	if err := api.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.UserInfo.Username
}

func TestAControlPlaneKeepsItsDataWhenKubeApiserverIsRestarted(t *testing.T) {
	plane, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	admin, err := client.New(plane.Config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	kept := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if err := admin.Create(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	before := plane.apiserver.Pid()
	if err := plane.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if plane.apiserver.Pid() == before {
		t.Error("the same process runs on")
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(kept), kept); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	select {
	case <-plane.Failed():
		t.Errorf("the restart counts as a failure: %v", plane.Err())
	default:
	}
}

func TestAControlPlaneThatLostItsStoreSaysSo(t *testing.T) {
	plane, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	if err := syscall.Kill(plane.etcd.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-plane.Failed()
	if err := plane.Err(); err == nil || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("%v, want the name of what has ended", err)
	}
}
