package monitoring

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/dockerd"
)

// useEverything makes a pool of each type, each in a namespace of its name, and uses them
// from then on. One target fails.
func (w *world) useEverything(t *testing.T) {
	t.Helper()
	w.pool(t, "ssh", 1)
	w.engines(t, "docker")
	w.clusters(t, "kubernetes")
	fails := startSSHD(t)
	w.target(t, "ssh", "fails", fails)
	w.ready(t, "ssh", 2)
	w.keepRunning(t, "ssh", "target-0", 1, "true")
	w.keepRunning(t, "ssh", "fails", 1, "true")
	w.keepDoing(t, 1, func(ctx context.Context) { w.get(ctx, "docker", "/_ping") })
	w.keepDoing(t, 1, func(ctx context.Context) { w.get(ctx, "kubernetes", "/version") })
	fails.Stop()
}

// engines makes a pool with a Docker engine.
func (w *world) engines(t *testing.T, namespace string) {
	t.Helper()
	engine := dockerd.Start(t)
	w.oneTarget(t, namespace, map[string][]byte{"ca.crt": engine.CA, "tls.crt": engine.Cert, "tls.key": engine.Key},
		v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{Endpoint: "tcp://" + engine.TCP, TLSRef: &v1alpha1.SecretRef{Name: "target-0"}}})
}

// clusters makes a pool with the test's own API server.
func (w *world) clusters(t *testing.T, namespace string) {
	t.Helper()
	config, err := w.plane.ServiceAccount(t.Context(), "default", "remote")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := controlplane.Kubeconfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w.oneTarget(t, namespace, map[string][]byte{"kubeconfig": kubeconfig},
		v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{KubeconfigRef: v1alpha1.KeyRef{Name: "target-0", Key: "kubeconfig"}}})
}

// oneTarget makes a namespace with a pool of one target and its Secret.
func (w *world) oneTarget(t *testing.T, namespace string, secret map[string][]byte, spec v1alpha1.ConnectionTargetSpec) {
	t.Helper()
	w.namespace(t, namespace)
	pool := thePool(namespace)
	pool.Spec.TargetSelector = &metav1.LabelSelector{MatchLabels: inPool}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "target-0", Labels: inPool}
	credentials := &corev1.Secret{ObjectMeta: *meta.DeepCopy(), Data: secret}
	credentials.Labels = map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue}
	w.create(t, credentials, &v1alpha1.ConnectionTarget{ObjectMeta: meta, Spec: spec}, pool)
	w.ready(t, namespace, 1)
}

// get sends a request to a target through its pool.
func (w *world) get(ctx context.Context, namespace, path string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://target"+path, http.NoBody)
	if err != nil {
		return
	}
	if response, err := w.commands.Pool(namespace, poolName).Proxy("target-0").RoundTrip(request); err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// keepRunning runs a command on a target so many times side by side, again and again until
// the test ends.
func (w *world) keepRunning(t *testing.T, namespace, target string, parallel int, argv ...string) {
	t.Helper()
	w.keepDoing(t, parallel, func(ctx context.Context) {
		_, _ = w.commands.Pool(namespace, poolName).Exec(ctx, goclient.Command{Argv: argv, Target: target})
	})
}

// pause is between the uses that keepDoing makes, for the sake of the machine.
const pause = 200 * time.Millisecond

// keepDoing uses pools so many times side by side, again and again until the test ends.
func (w *world) keepDoing(t *testing.T, parallel int, use func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for range parallel {
		done.Go(func() {
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for ctx.Err() == nil {
				use(ctx)
				select {
				case <-ticker.C:
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}
