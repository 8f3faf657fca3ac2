package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

// A restart makes all connections anew, and nearly all that the statuses say is still true.
func TestARestartWithEverythingAlreadyTrueWritesNextToNothing(t *testing.T) {
	const count = 30
	ownControlPlane(t)
	kubeconfig := adminKubeconfig(t)
	operator := startOwnOperator(t, kubeconfig)
	ns := namespace(t)
	server := startSSHD(t, "MaxStartups 100")
	create(t, credentials(ns, "key", server))
	for i := range count {
		create(t, target(ns, hostName(i), server, "key"))
	}
	all := pool(ns, "all", "", func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.TargetRef, spec.TargetSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	})
	create(t, all)
	condition(t, time.Minute, all, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarm)
	used := run(t, ns, hostName(0))
	settledFigures(t, ns, count)

	operator.Stop(10 * time.Second)
	watching := watchTargets(t, ns)
	operator = startOwnOperator(t, kubeconfig, "--replica-name=another")
	eventually(t, time.Minute, "all connections are there again", func() (bool, string) {
		made := &metav1.PartialObjectMetadataList{}
		made.SetGroupVersionKind(live.GroupVersion.WithKind("ConnectionList"))
		err := env.client.List(t.Context(), made, kube.InNamespace(ns)) // fails while the live API is away
		return err == nil && len(made.Items) == count, fmt.Sprint(len(made.Items), err)
	})
	// Writes of counters come in the order in which they became due: this one is the last.
	last := hostName(count - 1)
	run(t, ns, last)
	writes := map[string]int{}
	for event := range watching.ResultChan() {
		seen, ok := event.Object.(*v1alpha1.ConnectionTarget)
		if !ok {
			t.Fatalf("the watch says %v", event.Object)
		}
		if event.Type != watch.Modified {
			continue
		}
		if writes[seen.Name]++; seen.Name == last && ptr.Deref(seen.Status.UseCount, 0) == 1 {
			break
		}
	}
	delete(writes, last)
	if len(writes) > 1 {
		t.Errorf("after the restart %d statuses were written although they were true: %v", len(writes), writes)
	}
	var stored v1alpha1.ConnectionTarget
	if err := env.client.Get(t.Context(), kube.ObjectKey{Namespace: ns, Name: hostName(0)}, &stored); err != nil {
		t.Fatal(err)
	}
	if got := stored.Status.LastUsedTime; got == nil || !got.Equal(&used) {
		t.Errorf("the target was last used at %v, want %v as before the restart", got, used)
	}
	if lines := operator.LastLines(1000); strings.Contains(lines, "is not cached") {
		t.Errorf("targets were looked at before the pools could be:\n%s", lines)
	}
}

func hostName(i int) string { return fmt.Sprintf("host-%02d", i) }

// run runs a command on a target of the pool, and returns when that was as soon as the
// status says so.
func run(t *testing.T, ns, on string) (lastUsed metav1.Time) {
	t.Helper()
	clients, err := client.New(env.config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "a command on "+on, func() (bool, string) {
		_, err := clients.Pool(ns, "all").Exec(t.Context(), client.Command{Argv: []string{"true"}, Target: on})
		return err == nil, errorText(err)
	})
	var stored v1alpha1.ConnectionTarget
	eventually(t, time.Minute, "the use of "+on+" is counted", func() (bool, string) {
		err := env.client.Get(t.Context(), kube.ObjectKey{Namespace: ns, Name: on}, &stored)
		return err == nil && ptr.Deref(stored.Status.UseCount, 0) == 1, errorText(err)
	})
	return *stored.Status.LastUsedTime
}

// settledFigures waits until the statuses say that each target has its connection.
func settledFigures(t *testing.T, ns string, count int) {
	t.Helper()
	eventually(t, time.Minute, "the statuses have the final figures", func() (bool, string) {
		var all v1alpha1.ConnectionTargetList
		if err := env.client.List(t.Context(), &all, kube.InNamespace(ns)); err != nil {
			return false, err.Error()
		}
		warm := 0
		for i := range all.Items {
			if c := all.Items[i].Status.Connections; ptr.Deref(c.Warm, 0) == 1 && ptr.Deref(c.Dialing, 0) == 0 {
				warm++
			}
		}
		return warm == count, strconv.Itoa(warm)
	})
}

// watchTargets watches the targets of a namespace from now on.
func watchTargets(t *testing.T, ns string) watch.Interface {
	t.Helper()
	watcher, err := kube.NewWithWatch(env.config, kube.Options{Scheme: env.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	watching, err := watcher.Watch(t.Context(), &v1alpha1.ConnectionTargetList{}, kube.InNamespace(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watching.Stop)
	return watching
}
