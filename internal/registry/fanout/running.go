package fanout

import (
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Running are commands on many targets that can be stopped, by what identifies them. It is
// safe for concurrent use.
type Running[K comparable] struct {
	mu sync.Mutex
	// stops of one key are those of requests that were sent at the same time.
	stops map[K]map[*func()]struct{}
}

// Begin lets a command be stopped until end is called.
func (r *Running[K]) Begin(key K, stop func()) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stops == nil {
		r.stops = map[K]map[*func()]struct{}{}
	}
	if r.stops[key] == nil {
		r.stops[key] = map[*func()]struct{}{}
	}
	r.stops[key][&stop] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.stops[key], &stop)
		if len(r.stops[key]) == 0 {
			delete(r.stops, key)
		}
	}
}

// Stop stops the commands of a key, and reports whether there are any.
func (r *Running[K]) Stop(key K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for stop := range r.stops[key] {
		(*stop)()
	}
	return len(r.stops[key]) > 0
}

// ValidateStop returns what is wrong with a request to stop a command.
func ValidateStop(spec *live.ExecSpec) field.ErrorList {
	only := &live.ExecSpec{RequestID: spec.RequestID, Targets: &live.ExecTargets{Stop: true}}
	if spec.RequestID != "" && reflect.DeepEqual(spec, only) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "targets", "stop"), "set spec.requestID with it, and nothing else")}
}

// Stopped is the answer to a request that has stopped a command.
func Stopped(requestID string) live.ExecStatus {
	return live.ExecStatus{
		Outcome: live.OutcomeNotStarted, Reason: live.ReasonStopped, RequestID: requestID,
		Message: "nothing was started; the command under this ID was told to end, and its own answer says where it ran",
	}
}
