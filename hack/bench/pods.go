package main

import (
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/kube"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/image"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/node"
)

const (
	kubectlExec = "kubectl exec"
	podName     = "bench"
	podImage    = "connpool.test/busybox:1"
)

// measurePods compares a `true` in a pod with kubectl, on this machine and 50 ms
// away.
func measurePods(ctx context.Context, s settings) ([]row, error) {
	c, err := openPodCluster(ctx, s)
	if err != nil {
		return nil, err
	}
	defer c.close() //nolint:contextcheck // it cleans up whatever became of ctx
	var rows []row
	for _, d := range distances {
		s.say("race commands in a pod%s", d.words)
		took, err := c.race(ctx, s, d)
		if err != nil {
			return rows, err
		}
		rows = slices.Concat(rows,
			rank("command in a pod"+d.words, took, kubectlExec, atMostRatio(0.5)),
			sessionRows("command in a pod's session", took, kubectlExec, d))
	}
	return rows, nil
}

// podCluster is a control plane with a node and a pod.
type podCluster struct {
	plane *controlplane.ControlPlane
	node  *node.Node
	tools string // has kubectl
	dir   string
}

func openPodCluster(ctx context.Context, s settings) (c *podCluster, err error) {
	c = &podCluster{}
	if c.dir, err = os.MkdirTemp("", "connpool-bench-"); err != nil {
		return nil, err
	}
	if err := c.start(ctx, s); err != nil {
		c.close() //nolint:contextcheck // it cleans up whatever became of ctx
		return nil, err
	}
	return c, nil
}

func (c *podCluster) start(ctx context.Context, s settings) (err error) {
	if c.tools, err = binaries.Ensure(ctx, s.say); err != nil {
		return err
	}
	if c.plane, err = controlplane.Start(ctx, controlplane.Options{Say: s.say}); err != nil {
		return err
	}
	if c.node, err = node.Start(ctx, &c.plane.Access, node.Options{Say: s.say}); err != nil {
		return err
	}
	archive, err := image.Busybox(podImage)
	if err != nil {
		return err
	}
	if err := c.node.Import(ctx, archive); err != nil {
		return err
	}
	return c.runPod(ctx)
}

// runPod returns when the pod runs.
func (c *podCluster) runPod(ctx context.Context) error {
	api, err := kubernetes.NewForConfig(c.plane.Config)
	if err != nil {
		return err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: podName}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: podName, Image: podImage, ImagePullPolicy: corev1.PullNever, Command: []string{"sleep", "1000000"},
	}}}}
	if _, err := api.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.node.AwaitPod(ctx, namespace, podName)
}

func (c *podCluster) close() {
	if c.node != nil {
		c.node.Stop()
	}
	if c.plane != nil {
		c.plane.Stop()
	}
	_ = os.RemoveAll(c.dir)
}

func (c *podCluster) race(ctx context.Context, s settings, d distance) (map[string][]float64, error) {
	proxy, kubeconfig, err := c.awayBy(d)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	conn, err := dialBy(ctx, kube.New(kube.Options{QPS: 10_000, Burst: 10_000}), clusterEndpoint(kubeconfig))
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // the end of a benchmark
	place := driver.Place{Pod: podName}
	shell, err := sessionOn(ctx, conn, place)
	if err != nil {
		return nil, err
	}
	defer shell.Close()
	return race(ctx, of(s, 40*time.Second, 3*time.Second), runs(ours, conn, place), inSession(shell), c.kubectl(kubeconfig))
}

// awayBy puts the API server behind a proxy.
func (c *podCluster) awayBy(d distance) (*netfault.Proxy, []byte, error) {
	at, err := url.Parse(c.plane.Config.Host)
	if err != nil {
		return nil, nil, err
	}
	proxy, err := netfault.Start(at.Host, netfault.Options{RoundTrip: d.roundTrip})
	if err != nil {
		return nil, nil, err
	}
	config := rest.CopyConfig(c.plane.Config)
	config.Host = "https://" + proxy.Addr
	kubeconfig, err := controlplane.Kubeconfig(config)
	if err != nil {
		proxy.Close()
		return nil, nil, err
	}
	return proxy, kubeconfig, nil
}

func clusterEndpoint(kubeconfig []byte) driver.Endpoint {
	return driver.Endpoint{
		Credentials: map[string][]byte{"kubeconfig": kubeconfig}, Namespace: namespace, Dial: new(net.Dialer).DialContext,
	}
}

func (c *podCluster) kubectl(kubeconfig []byte) contender {
	file := filepath.Join(c.dir, "kubeconfig")
	return contender{kubectlExec, func(ctx context.Context) error {
		if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
			return err
		}
		kubectl := filepath.Join(c.tools, "kubectl")
		return finish(exec.CommandContext(ctx, kubectl, "--kubeconfig="+file, "-n", namespace, "exec", podName, "--", "true"))
	}, 1}
}
