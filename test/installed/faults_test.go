//go:build e2e

package installed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/test/atmostonce"
)

// load sends commands through kube-apiserver and to the Service while something breaks
// once, and checks that each ran at most once. Commands of 300 ms, 24 at a time, are at
// least 50 a second on a quiet machine.
func load(t *testing.T, commands int, strike func(context.Context) error) {
	t.Helper()
	file, err := os.CreateTemp(fixture.dir, "ledger-")
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	ledger, err := atmostonce.NewLedger(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	sent := atmostonce.Load{
		Ledger: ledger, Clients: ways(t), Commands: commands, Parallel: 24, Lines: 10, Pause: 300 * time.Millisecond,
	}
	var fault atmostonce.Fault
	if strike != nil {
		fault = atmostonce.Fault{Strikes: 1, Strike: strike}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	summary, err := sent.Run(ctx, fault)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("%s in %s: %.0f commands a second", summary, took.Round(time.Second), float64(summary.Completed)/took.Seconds())
	for reason, n := range summary.Reasons {
		t.Logf("%d times %s", n, reason)
	}
	if err := summary.Err(); err != nil {
		t.Error(err)
	}
	if summary.Strikes == 0 && strike != nil {
		t.Error("nothing was broken")
	}
	if failed := summary.Failed(); strike == nil && failed > 0 {
		t.Errorf("%d commands failed, and nothing was broken", failed)
	}
	awaitCommand(t)
}

// ways are all clients, on both roads, but client-go's executor for SPDY: it takes the loss
// of its own connection for the end of a command that succeeded.
func ways(t *testing.T) (all []atmostonce.Client) {
	t.Helper()
	pool := atmostonce.Pool{Namespace: "default", Name: "host"}
	for name, config := range map[string]*rest.Config{"proxied ": fixture.worker, "direct ": direct(t)} {
		pool.Config = config
		clients, err := pool.Clients(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, client := range clients {
			t.Cleanup(client.Close)
		}
		all = append(all, slices.DeleteFunc(clients, func(c atmostonce.Client) bool { return strings.HasSuffix(c.Name, "SPDY") })...)
	}
	return all
}

// leader returns the name of the pod that holds the connections.
func leader(ctx context.Context) (string, error) {
	slice, err := fixture.api.DiscoveryV1().EndpointSlices(space).Get(ctx, service+"-leader", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if len(slice.Endpoints) == 0 {
		return "", errors.New("no replica leads")
	}
	pods, err := fixture.api.CoreV1().Pods(space).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range pods.Items {
		if pods.Items[i].Status.PodIP == slice.Endpoints[0].Addresses[0] {
			return pods.Items[i].Name, nil
		}
	}
	return "", fmt.Errorf("no pod has the leader's address %s", slice.Endpoints[0].Addresses[0])
}

func deleteLeader(ctx context.Context) error {
	name, err := leader(ctx)
	if err != nil {
		return err
	}
	return fixture.api.CoreV1().Pods(space).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
}

// killLeader kills the process of the leader's container, which the kubelet restarts.
func killLeader(ctx context.Context) error {
	name, err := leader(ctx)
	if err != nil {
		return err
	}
	pod, err := fixture.api.CoreV1().Pods(space).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	pid, err := processOf(pod)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// processOf returns the ID of the operator's process in a pod.
func processOf(pod *corev1.Pod) (pid int, err error) {
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range groups {
		group, err := os.ReadFile(file)
		line, lineErr := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err != nil || lineErr != nil || !bytes.HasPrefix(line, []byte("/manager\x00")) || !bytes.Contains(group, []byte(pod.UID)) {
			continue
		}
		_, err = fmt.Sscanf(file, "/proc/%d/cgroup", &pid)
		return pid, err
	}
	return 0, fmt.Errorf("no process of pod %s is found", pod.Name)
}

// drainLeader evicts the operator from the node of the leader, and lets pods onto it
// again.
func drainLeader(ctx context.Context) error {
	name, err := leader(ctx)
	if err != nil {
		return err
	}
	pod, err := fixture.api.CoreV1().Pods(space).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"drain", pod.Spec.NodeName, "--pod-selector=app.kubernetes.io/name=connpool", "--timeout=90s"}, {"uncordon", pod.Spec.NodeName},
	} {
		out, err := exec.CommandContext(ctx, "kubectl", append(args, "--kubeconfig="+kubeconfig("admin"))...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("kubectl %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// deleteCertificate deletes the certificate that all replicas share.
func deleteCertificate(ctx context.Context) error {
	return fixture.api.CoreV1().Secrets(space).Delete(ctx, service+"-certs", metav1.DeleteOptions{})
}
