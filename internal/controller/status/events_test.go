package status

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
)

func TestEventsOfANamespaceAreBoundedAndSayHowManyWereLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorded := events.NewFakeRecorder(1000)
		recorder := Sparing(recorded)
		tell := func(namespace string) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}}
			recorder.Eventf(pod, nil, corev1.EventTypeNormal, "Warm", "Reconcile", "%s", "100% of it")
		}
		for range 500 {
			tell("many")
		}
		if got := len(recorded.Events); got != eventBurst {
			t.Errorf("%d of 500 events were recorded, want %d", got, eventBurst)
		}
		tell("other")
		if got := len(recorded.Events); got != eventBurst+1 {
			t.Error("the events of one namespace are left out because of another")
		}
		time.Sleep(eventEvery)
		tell("many")
		var last string
		for len(recorded.Events) > 0 {
			last = <-recorded.Events
		}
		if !strings.Contains(last, "100% of it (475 events of other targets") {
			t.Errorf("the next event is %q, want the number that was left out", last)
		}
	})
}

func TestNamespacesWithoutEventsAreForgotten(t *testing.T) {
	s := &sparing{recorder: events.NewFakeRecorder(0), namespaces: map[string]*namespaceEvents{}}
	for i := range 10 * idleNamespaces {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: strings.Repeat("n", 1+i%97) + string(rune('a'+i%26)) + time.Duration(i).String()}}
		for range eventBurst + 1 { // one of which is left out
			s.admit(pod, start.Add(time.Duration(i)*time.Minute))
		}
	}
	if len(s.namespaces) > idleNamespaces {
		t.Errorf("%d namespaces are remembered", len(s.namespaces))
	}
}
