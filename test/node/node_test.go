//go:build e2e

package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
	return plane, add(t, plane, Options{Say: t.Logf})
}

// add adds a node that has the image busybox.
func add(t *testing.T, plane *controlplane.ControlPlane, options Options) *Node {
	t.Helper()
	began := time.Now()
	n, err := Start(t.Context(), &plane.Access, options)
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
	return n
}

// run makes a pod called web that sleeps, and returns when it runs.
func run(t *testing.T, plane *controlplane.ControlPlane) *corev1.Pod {
	t.Helper()
	return runCommand(t, plane, Name, "web", "sleep", "1000000")
}

// runCommand makes a pod on a node, and returns when it runs.
func runCommand(t *testing.T, plane *controlplane.ControlPlane, node, name string, command ...string) *corev1.Pod {
	t.Helper()
	api, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Name: name, Image: busybox, ImagePullPolicy: corev1.PullNever, Command: command,
		}}},
	}
	if _, err := api.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pods := cache.NewListWatchFromClient(api.CoreV1().RESTClient(), "pods", "default", fields.OneTermEqualSelector(metav1.ObjectNameField, name))
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

func TestPodsOfTwoNodesReachServicesAndTheAPIServer(t *testing.T) {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{ServiceAccounts: true, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	first := add(t, plane, Options{Services: true})
	second := add(t, plane, Options{Services: true, Worker: true, Name: "node-2"})
	kubectl(t, plane, first, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
	kubectl(t, plane, first, "create", "service", "clusterip", "server", "--tcp=80:8080")
	service := kubectl(t, plane, first, "get", "service", "server", "-o", "jsonpath={.spec.clusterIP}")
	const page = "echo served > index.html; httpd -f -p 8080"
	server := runCommand(t, plane, Name, "server", "sh", "-c", "cd /tmp; "+page)
	for _, node := range []string{Name, second.Name} {
		client := "client-" + node
		runCommand(t, plane, node, client, "sleep", "1000000")
		// Not wget, which looks for names and in a static busybox fails at that.
		const again = "until printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 $0 80 | grep served; do usleep 100000; done"
		if out := kubectl(t, plane, first, "exec", client, "--", "timeout", "30", "sh", "-c", again, service); out != "served\n" {
			t.Errorf("from %s the Service says %q", node, out)
		}
		const whole = "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && " +
			"wc -l </var/run/secrets/kubernetes.io/serviceaccount/namespace && " +
			"test -s /var/run/secrets/kubernetes.io/serviceaccount/token && test -s /var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
		kubectl(t, plane, first, "exec", client, "--", "sh", "-c", whole)
	}
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(service, "80"), 5*time.Second)
	if err != nil {
		t.Fatalf("from this machine the Service fails: %v", err)
	}
	_ = connection.Close()
	t.Run("a connection outlives the moment before its rules", func(t *testing.T) { connectTooEarly(t, plane, server.Status.PodIP) })
	second.Stop()
	first.Stop()
	wantNothing(t, first)
	wantNothing(t, second)
	if rules, err := exec.CommandContext(t.Context(), "iptables-save").Output(); err != nil || strings.Contains(string(rules), "KUBE-SVC") || strings.Contains(string(rules), controlplane.ServiceNetwork) {
		t.Errorf("the rules of Services are left, %v", err)
	}
}

// connectTooEarly connects to the address of a Service that is made after the first
// packet was sent. The kernel gives up after 3 s if nothing answers on the link.
func connectTooEarly(t *testing.T, plane *controlplane.ControlPlane, pod string) {
	t.Helper()
	const name, address = "late", "10.0.0.77"
	api, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	// First where the Service leads: without that, connections are refused.
	_, err = api.DiscoveryV1().EndpointSlices("default").Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{pod}}},
		Ports:       []discoveryv1.EndpointPort{{Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dialed := make(chan error, 1)
	go func() {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(address, "80"), 20*time.Second)
		if err == nil {
			_ = connection.Close()
		}
		dialed <- err
	}()
	awaitPacket(t, address)
	_, err = api.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: address, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-dialed; err != nil {
		t.Error(err)
	}
}

// awaitPacket returns when a connection to an address is being made.
func awaitPacket(t *testing.T, address string) {
	t.Helper()
	octets := net.ParseIP(address).To4()
	// As the kernel prints an address on a machine whose words begin with the low byte,
	// and the state SYN_SENT.
	inTable := fmt.Sprintf("%02X%02X%02X%02X:0050 02", octets[3], octets[2], octets[1], octets[0])
	for {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(table), inTable) {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Millisecond):
		}
	}
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
