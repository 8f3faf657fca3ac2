package status

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

const (
	// eventBurst and eventEvery bound the events about the targets of one namespace: so
	// many at once, and then one each time. The events and conditions of pools say what
	// becomes of thousands of targets.
	eventBurst = 25
	eventEvery = 2 * time.Second
	// idleNamespaces is how many namespaces are kept whose events are not held back.
	idleNamespaces = 1000
)

// Sparing returns a recorder that leaves out what is too much for one namespace. The next
// event that is recorded there says how many were left out.
func Sparing(recorder events.EventRecorder) events.EventRecorder {
	return &sparing{recorder: recorder, namespaces: map[string]*namespaceEvents{}}
}

type sparing struct {
	recorder events.EventRecorder

	mu         sync.Mutex
	namespaces map[string]*namespaceEvents
}

// namespaceEvents are what a namespace has had of late.
type namespaceEvents struct {
	limit *rate.Limiter
	// leftOut counts the events since the last one that was recorded.
	leftOut int
}

// Eventf implements events.EventRecorder.
func (s *sparing) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	leftOut, ok := s.admit(regarding, time.Now())
	if !ok {
		return
	}
	if leftOut > 0 {
		note, args = "%s (%d events of other targets of the namespace were left out before this one; the pools sum up)",
			[]any{fmt.Sprintf(note, args...), leftOut}
	}
	s.recorder.Eventf(regarding, related, kind, reason, action, note, args...)
}

// admit reports whether an event is recorded, and how many were left out before it.
func (s *sparing) admit(regarding runtime.Object, now time.Time) (leftOut int, ok bool) {
	namespace := ""
	if object, err := meta.Accessor(regarding); err == nil {
		namespace = object.GetNamespace()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.namespaces[namespace]
	if of == nil {
		s.forgetIdle(now)
		of = &namespaceEvents{limit: rate.NewLimiter(rate.Every(eventEvery), eventBurst)}
		s.namespaces[namespace] = of
	}
	if !of.limit.AllowN(now, 1) {
		of.leftOut++
		return 0, false
	}
	leftOut, of.leftOut = of.leftOut, 0
	return leftOut, true
}

// forgetIdle drops the namespaces that have had no event for long, once they are many.
func (s *sparing) forgetIdle(now time.Time) {
	if len(s.namespaces) < idleNamespaces {
		return
	}
	for namespace, of := range s.namespaces {
		if of.limit.TokensAt(now) >= eventBurst {
			delete(s.namespaces, namespace)
		}
	}
}
