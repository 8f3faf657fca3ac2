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

// measurePods compares a `true` in a pod with kubectl, next to us and 50 ms away.
func measurePods(ctx context.Context, s settings) ([]row, error) {
	f, err := openField(ctx, s)
	if err != nil {
		return nil, err
	}
	defer f.close() //nolint:contextcheck // it cleans up whatever became of ctx
	var rows []row
	for _, d := range distances {
		s.say("race commands in a pod%s", d.words)
		took, err := f.race(ctx, s, d)
		if err != nil {
			return rows, err
		}
		rows = slices.Concat(rows,
			rank("command in a pod"+d.words, took, kubectlExec, atMostRatio(0.5)),
			sessionRows("command in a pod's session", took, kubectlExec, d))
	}
	return rows, nil
}

// field is a control plane with a node and a pod.
type field struct {
	plane *controlplane.ControlPlane
	node  *node.Node
	tools string // has kubectl
	dir   string
}

func openField(ctx context.Context, s settings) (f *field, err error) {
	f = &field{}
	if f.dir, err = os.MkdirTemp("", "connpool-bench-"); err != nil {
		return nil, err
	}
	if err := f.start(ctx, s); err != nil {
		f.close() //nolint:contextcheck // it cleans up whatever became of ctx
		return nil, err
	}
	return f, nil
}

func (f *field) start(ctx context.Context, s settings) (err error) {
	if f.tools, err = binaries.Ensure(ctx, s.say); err != nil {
		return err
	}
	if f.plane, err = controlplane.Start(ctx, controlplane.Options{Say: s.say}); err != nil {
		return err
	}
	if f.node, err = node.Start(ctx, &f.plane.Access, node.Options{Say: s.say}); err != nil {
		return err
	}
	archive, err := image.Busybox(podImage)
	if err != nil {
		return err
	}
	if err := f.node.Import(ctx, archive); err != nil {
		return err
	}
	return f.runPod(ctx)
}

// runPod returns when the pod runs.
func (f *field) runPod(ctx context.Context) error {
	api, err := kubernetes.NewForConfig(f.plane.Config)
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
	return f.node.AwaitPod(ctx, namespace, podName)
}

func (f *field) close() {
	if f.node != nil {
		f.node.Stop()
	}
	if f.plane != nil {
		f.plane.Stop()
	}
	_ = os.RemoveAll(f.dir)
}

func (f *field) race(ctx context.Context, s settings, d distance) (map[string][]float64, error) {
	proxy, kubeconfig, err := f.awayBy(d)
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
	return race(ctx, of(s, 40*time.Second, 3*time.Second), runs(ours, conn, place), inSession(shell), f.kubectl(kubeconfig))
}

// awayBy puts the API server behind a proxy.
func (f *field) awayBy(d distance) (*netfault.Proxy, []byte, error) {
	at, err := url.Parse(f.plane.Config.Host)
	if err != nil {
		return nil, nil, err
	}
	proxy, err := netfault.Start(at.Host, netfault.Options{RoundTrip: d.roundTrip})
	if err != nil {
		return nil, nil, err
	}
	config := rest.CopyConfig(f.plane.Config)
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

func (f *field) kubectl(kubeconfig []byte) contender {
	file := filepath.Join(f.dir, "kubeconfig")
	return contender{kubectlExec, func(ctx context.Context) error {
		if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
			return err
		}
		kubectl := filepath.Join(f.tools, "kubectl")
		return finish(exec.CommandContext(ctx, kubectl, "--kubeconfig="+file, "-n", namespace, "exec", podName, "--", "true"))
	}, 1}
}
