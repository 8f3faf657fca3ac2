//go:build e2e

package node

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/image"
	"github.com/connpool/connpool/test/leftovers"
)

const busybox = "connpool.test/busybox:1"

func start(t *testing.T) (*controlplane.ControlPlane, *Node) {
	t.Helper()
	plane, err := controlplane.Start(t.Context(), controlplane.Options{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	began := time.Now()
	n, err := Start(t.Context(), &plane.Access, Options{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	t.Logf("the node is ready after %s", time.Since(began).Round(time.Millisecond))
	archive, err := image.Busybox(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Import(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	return plane, n
}

// run makes a pod that sleeps, and returns when it runs.
func run(t *testing.T, plane *controlplane.ControlPlane) *corev1.Pod {
	t.Helper()
	api, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Image: busybox, ImagePullPolicy: corev1.PullNever, Command: []string{"sleep", "1000000"},
		}}},
	}
	if _, err := api.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pods := cache.NewListWatchFromClient(api.CoreV1().RESTClient(), "pods", "default", fields.Everything())
	event, err := watchtools.UntilWithSync(ctx, pods, &corev1.Pod{}, nil, func(event watch.Event) (bool, error) {
		seen, ok := event.Object.(*corev1.Pod)
		return ok && seen.Status.Phase == corev1.PodRunning, nil
	})
	if err != nil {
		t.Fatalf("the pod does not run: %v", err)
	}
	return event.Object.(*corev1.Pod)
}

func TestPodsRunUntilTheNodeIsStopped(t *testing.T) {
	plane, n := start(t)
	pod := run(t, plane)
	if !strings.HasPrefix(pod.Status.PodIP, n.link.prefix()) {
		t.Errorf("the pod has the address %q, want one of %s", pod.Status.PodIP, n.link.subnet())
	}
	if out := kubectl(t, plane, n, "exec", "web", "--", "cat", "/proc/1/cmdline"); out != "sleep\x001000000\x00" {
		t.Errorf("the first process is %q", out)
	}
	n.Stop()
	wantNothing(t, n)
}

func TestWhatAKilledNodeHasLeftCanBeCleaned(t *testing.T) {
	plane, n := start(t)
	run(t, plane)
	for _, p := range n.processes {
		p.Stop(0)
	}
	if len(leftovers.Mounts(n.Dir)) == 0 {
		t.Fatal("nothing is left, so there is nothing to test")
	}
	Clean(n.Dir)
	wantNothing(t, n)
}

func kubectl(t *testing.T, plane *controlplane.ControlPlane, n *Node, args ...string) string {
	t.Helper()
	kubeconfig, err := plane.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(n.programs, "kubectl"),
		append([]string{"--kubeconfig=" + file}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// wantNothing looks where a node leaves something when it is killed.
func wantNothing(t *testing.T, n *Node) {
	t.Helper()
	if left := leftovers.Mounts(n.Dir); len(left) > 0 {
		t.Errorf("mounts are left: %v", left)
	}
	for _, group := range leftovers.ControlGroups(n.controlGroup()) {
		if _, err := os.Stat(group); err == nil {
			t.Errorf("the control group %s is left", group)
		}
	}
	if _, err := os.Stat("/sys/class/net/" + n.link.name); err == nil {
		t.Errorf("the link %s is left", n.link.name)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), n.Dir) {
			t.Errorf("%s runs on: %q", file, line)
		}
	}
	if left, _ := filepath.Glob("/var/lib/cni/results/" + n.link.name + "-*"); len(left) > 0 {
		t.Errorf("the network's plugins remember %v", left)
	}
}
