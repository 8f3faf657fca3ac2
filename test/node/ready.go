package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// await calls the function until it succeeds, ctx ends, or a process of the node has
// ended.
func (n *Node) await(ctx context.Context, what string, try func() error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-n.failed:
			return n.Err()
		case <-ticker.C:
		}
	}
}

// awaitReady watches the node until pods may be put on it.
func (n *Node) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-n.failed:
			cancel(n.Err())
		case <-ctx.Done():
		}
	}()
	client, err := kubernetes.NewForConfig(n.access.Config)
	if err != nil {
		return err
	}
	nodes := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll,
		fields.OneTermEqualSelector(metav1.ObjectNameField, n.Name))
	_, err = watchtools.UntilWithSync(ctx, nodes, &corev1.Node{}, nil, func(event watch.Event) (bool, error) {
		seen, ok := event.Object.(*corev1.Node)
		return ok && isReady(seen), nil
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w; see %s", cause, n.path("kubelet.log"))
	}
	return err
}

// isReady reports whether the kubelet is ready and the scheduler knows it.
func isReady(node *corev1.Node) bool {
	return len(node.Spec.Taints) == 0 && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// AwaitPod returns when the pod runs, or ctx ends.
func (n *Node) AwaitPod(ctx context.Context, namespace, name string) error {
	client, err := kubernetes.NewForConfig(n.access.Config)
	if err != nil {
		return err
	}
	pods := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", namespace,
		fields.OneTermEqualSelector(metav1.ObjectNameField, name))
	_, err = watchtools.UntilWithSync(ctx, pods, &corev1.Pod{}, nil, func(event watch.Event) (bool, error) {
		seen, ok := event.Object.(*corev1.Pod)
		return ok && seen.Status.Phase == corev1.PodRunning, nil
	})
	if err != nil {
		return fmt.Errorf("wait until the pod %s runs: %w; see %s", name, err, n.path("kubelet.log"))
	}
	return nil
}
