//go:build e2e

package installed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// makeSpace makes the operator's namespace, in which only restricted pods may run.
func makeSpace(t *testing.T) {
	t.Helper()
	admin(t, "create", "namespace", space)
	admin(t, "label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
}

// declare applies the targets and pools.
func declare(t *testing.T) {
	t.Helper()
	text, err := manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	runInput(t, text, "kubectl", "--kubeconfig="+kubeconfig("admin"), "apply", "--server-side", "-f", "-")
}

// awaitReplicas returns when both replicas are ready and pools of all types are, too.
func awaitReplicas(t *testing.T) {
	t.Helper()
	admin(t, "rollout", "status", "deployment/connpool-manager", "--namespace="+space, "--timeout=100s")
	await(t, "all pools are ready", func() error {
		const states = `{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message} {end}`
		out := admin(t, "get", "connectionpools", "-o", "jsonpath="+states)
		if strings.Count(out, "=True") != 3 {
			return errors.New(out)
		}
		return nil
	})
}

func TestAnInstallationThroughItsLife(t *testing.T) {
	admin(t, "create", "namespace", appsNamespace)
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"the chart is installed", install},
		{"every feature works", features},
		{"a Job needs nothing but its token", job},
		{"nothing breaks", func(t *testing.T) { load(t, 1000, nil) }},
		{"kube-apiserver is restarted", func(t *testing.T) { load(t, 1000, fixture.plane.Restart) }},
		{"the leader's pod is deleted by force", func(t *testing.T) { load(t, 1000, deleteLeader) }},
		{"the leader's process is killed", func(t *testing.T) { load(t, 1000, killLeader) }},
		{"the leader's node is drained", func(t *testing.T) { load(t, 1000, drainLeader) }},
		{"the certificate's Secret is deleted", func(t *testing.T) { load(t, 1000, deleteCertificate) }},
		{"the next version is installed", upgrade},
		{"every feature of the next version works", features},
		{"uninstall leaves pools, and namespaces that can be deleted", uninstall},
		{"the kustomization is installed, too, and removed", kustomize},
	} {
		if !t.Run(part.name, part.test) {
			t.Fatal(diagnose(t))
		}
	}
}

// install measures how long it takes until a command runs.
func install(t *testing.T) {
	makeSpace(t)
	began := time.Now()
	helm(t, "install", "connpool", "charts/connpool", "--set=image.tag="+older)
	declare(t)
	awaitCommand(t)
	t.Logf("the first command printed %s after helm install began", time.Since(began).Round(100*time.Millisecond))
	awaitReplicas(t)
	reportPods(t)
}

// reportPods says how long each of the operator's pods took to be ready, and what its
// process holds in memory.
func reportPods(t *testing.T) {
	t.Helper()
	pods, err := fixture.api.CoreV1().Pods(space).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=connpool"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		pid, err := processOf(pod)
		if err != nil {
			t.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		var ready time.Time
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady {
				ready = c.LastTransitionTime.Time
			}
		}
		started := pod.Status.ContainerStatuses[0].State.Running.StartedAt
		_, memory, _ := strings.Cut(string(status), "VmRSS:")
		memory, _, _ = strings.Cut(memory, "\n")
		t.Logf("pod %s was ready %s after its container started, and has %s resident",
			pod.Name, ready.Sub(started.Time), strings.TrimSpace(memory))
	}
}

func uninstall(t *testing.T) {
	helm(t, "uninstall", "connpool", "--wait", "--timeout=100s")
	if pools := admin(t, "get", "connectionpools", "-o", "name"); strings.Count(pools, "\n") != 3 {
		t.Errorf("of the pools are left: %s", pools)
	}
	admin(t, "create", "namespace", "unrelated")
	admin(t, "delete", "namespace", "unrelated", "--timeout=60s")
	admin(t, "delete", "namespace", space, "--timeout=100s")
}

// kustomize finds the pools that the uninstallation of the chart has kept.
func kustomize(t *testing.T) {
	manifests := strings.ReplaceAll(run(t, "kubectl", "kustomize", "config/default"), "image: connpool:dev", "image: connpool:"+newer)
	apply := []string{"kubectl", "--kubeconfig=" + kubeconfig("admin"), "apply", "--server-side", "--force-conflicts", "-f", "-"}
	runInput(t, manifests, apply...)
	awaitCommand(t)
	awaitReplicas(t)
	features(t)
	// As docs/how-to/install.md says: first what stands in the way of other deletions.
	admin(t, "delete", "apiservice", theAPI)
	runInput(t, manifests, "kubectl", "--kubeconfig="+kubeconfig("admin"), "delete", "--ignore-not-found", "--timeout=110s", "-f", "-")
	admin(t, "create", "namespace", "unrelated")
	admin(t, "delete", "namespace", "unrelated", "--timeout=60s")
}

// upgrade replaces the version by the next one while commands run.
func upgrade(t *testing.T) {
	load(t, 2000, func(context.Context) error {
		helm(t, "upgrade", "connpool", "charts/connpool", "--set=image.tag="+newer)
		return nil
	})
	awaitReplicas(t)
	if out := plugin(t, "version"); !strings.Contains(out, newer) || strings.Contains(out, older) {
		t.Errorf("the version is %s", out)
	}
	if images := admin(t, "get", "pods", "--namespace="+space, "-o", "jsonpath={.items[*].spec.containers[*].image}"); strings.Contains(images, older) {
		t.Errorf("pods have the images %s", images)
	}
}
