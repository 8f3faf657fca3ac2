package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/netfault"
)

// patience bounds how long a test waits for what must happen.
const patience = 20 * time.Second

// fixture is a real kube-apiserver, and a fake node whose pods are processes of this
// machine. The first test that needs it starts it.
type fixture struct {
	plane   *controlplane.ControlPlane
	kubelet *kubelet
}

var (
	sharedFixture = sync.OnceValues(startFixture)
	started       fixture // for TestMain to stop
)

func startFixture() (f fixture, err error) {
	defer func() { started = f }()
	if f.plane, err = controlplane.Start(context.Background(), controlplane.Options{}); err != nil {
		return f, err
	}
	if f.kubelet, err = startKubelet(f.plane); err != nil {
		return f, err
	}
	return f, createPods(f.plane.Config, f.kubelet.port())
}

func (f fixture) stop() {
	if f.kubelet != nil {
		f.kubelet.close()
	}
	if f.plane != nil {
		f.plane.Stop()
	}
}

func cluster(t testing.TB) fixture {
	t.Helper()
	f, err := sharedFixture()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMain(m *testing.M) {
	code := m.Run()
	started.stop()
	// The kubelet's streaming server takes a second to shut down, and ten seconds to give
	// up an API server that has ended.
	err := goleak.Find(
		goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"),
		goleak.IgnoreAnyFunction("k8s.io/cri-streaming/pkg/streaming/remotecommand.ServeExec"),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const nodeName = "node"

// createPods makes the node and its pods, as a kubelet would report them.
func createPods(config *rest.Config, port int) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := setNode(ctx, client, port); err != nil {
		return err
	}
	one, two := []string{"app"}, []string{"app", "log"}
	return errors.Join(
		createPod(ctx, client, "web", nodeName, nil, one),
		createPod(ctx, client, "two", nodeName, nil, two),
		createPod(ctx, client, "annotated", nodeName, map[string]string{defaultContainerAnnotation: "log"}, two),
		createPod(ctx, client, "large", nodeName, map[string]string{
			"a": strings.Repeat("a", 200<<10), defaultContainerAnnotation: "log",
		}, two),
		createPod(ctx, client, "misled", nodeName, map[string]string{defaultContainerAnnotation: "none"}, two),
		createPod(ctx, client, "pending", "", nil, one),
	)
}

// setNode sets the address of the node's kubelet.
func setNode(ctx context.Context, client kubernetes.Interface, port int) error {
	node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	_, err = client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

func createPod(
	ctx context.Context, client kubernetes.Interface, name, node string, annotations map[string]string, containers []string,
) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: node},
	}
	for _, container := range containers {
		has := corev1.Container{Name: container, Image: "none"}
		if container == "app" {
			has.Ports = []corev1.ContainerPort{
				{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {ContainerPort: 9000},
			}
		}
		pod.Spec.Containers = append(pod.Spec.Containers, has)
	}
	created, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Status.Phase = corev1.PodPending
	if node != "" {
		created.Status.Phase = corev1.PodRunning
	}
	_, err = client.CoreV1().Pods("default").UpdateStatus(ctx, created, metav1.UpdateOptions{})
	return err
}

// web is where tests run commands.
var web = driver.Place{Pod: "web"}

// endpointOf returns an endpoint with the credentials of a client configuration.
func endpointOf(t testing.TB, config *rest.Config) driver.Endpoint {
	t.Helper()
	kubeconfig, err := controlplane.Kubeconfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return driver.Endpoint{
		Credentials:       map[string][]byte{keyKubeconfig: kubeconfig},
		Dial:              new(net.Dialer).DialContext,
		KeepaliveInterval: 5 * time.Second, KeepaliveTimeout: 5 * time.Second,
	}
}

func admin(t testing.TB) driver.Endpoint {
	t.Helper()
	return endpointOf(t, cluster(t).plane.Config)
}

// brief returns the endpoint with a keepalive that notices faults soon.
func brief(endpoint driver.Endpoint) driver.Endpoint {
	endpoint.KeepaliveInterval, endpoint.KeepaliveTimeout = 200*time.Millisecond, 700*time.Millisecond
	return endpoint
}

// through returns the endpoint behind a proxy that can misbehave.
func through(t testing.TB, endpoint driver.Endpoint) (*netfault.Proxy, driver.Endpoint) {
	t.Helper()
	proxy, err := netfault.Start(strings.TrimPrefix(cluster(t).plane.Config.Host, "https://"), netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy, to(endpoint, proxy.Addr)
}

// to returns the endpoint at another address.
func to(endpoint driver.Endpoint, address string) driver.Endpoint {
	endpoint.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return endpoint
}

func dialWith(ctx context.Context, options Options, endpoint driver.Endpoint) (driver.Conn, error) {
	dialer, err := New(options).Prepare(endpoint)
	if err != nil {
		return nil, err
	}
	return dialer.Dial(ctx)
}

func mustDial(t testing.TB, options Options, endpoint driver.Endpoint) *conn {
	t.Helper()
	dialed, err := dialWith(t.Context(), options, endpoint)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, driver.AsError(err).Err)
	}
	t.Cleanup(func() { _ = dialed.Close() })
	return dialed.(*conn)
}

func wantError(t *testing.T, err error, reason driver.Reason, stage driver.Stage) *driver.Error {
	t.Helper()
	got, ok := errors.AsType[*driver.Error](err)
	if !ok {
		t.Fatalf("error %v, want %s", err, reason)
	}
	if got.Reason != reason || got.Stage != stage {
		t.Errorf("%s at %q (%s; %v), want %s at %q", got.Reason, got.Stage, got.Message, got.Err, reason, stage)
	}
	return got
}

// wantDeath waits until a connection has died for the reason.
func wantDeath(t *testing.T, conn driver.Conn, reason driver.Reason, stage driver.Stage) {
	t.Helper()
	select {
	case <-conn.Context().Done():
		wantError(t, context.Cause(conn.Context()), reason, stage)
	case <-time.After(patience):
		t.Fatal("the connection did not end")
	}
}
